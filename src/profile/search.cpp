// The rules of the search.

#include "profile/search.h"

#include <algorithm>
#include <tuple>

#include "saturn/base/units.h"
#include "saturn/batch/check_devices.h"

namespace saturn::profile {
namespace {

constexpr double kKnobMargin = 0.10;       // of time, within a technique that was measured here
constexpr double kTechniqueMargin = 0.25;  // ... between techniques
constexpr double kMeasuredSlack = 0.10;    // of memory, where a trial has calibrated the formula
constexpr double kFormulaSlack = 0.50;     // ... where none has

std::string milliseconds(double seconds) {
  return format_number(seconds * 1e3, 3) + " ms";
}

// Of one rank, whose devices' memory it uses together.
std::int64_t limit_of(const batch::Configuration& configuration, const devices::Machine& machine) {
  for (const batch::DeviceGroup& group : batch::device_groups(machine)) {
    if (group.device_class == configuration.device_class)
      return group.memory_bytes * configuration.num_devices / configuration.num_ranks;
  }
  return 0;
}

bool is_named(const batch::Batch& batch, const Trial& trial) {
  return std::any_of(batch.jobs.begin(), batch.jobs.end(), [&](const batch::Job& job) {
    const auto has = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    return has(trial.jobs, job.name) && has(job.techniques, trial.configuration.technique);
  });
}

}  // namespace

std::optional<double> memory_scale(const std::vector<const Trial*>& trials) {
  std::optional<double> scale;
  for (const Trial* const trial : trials) {
    if (!trial->is_measured() || trial->predicted_memory_bytes <= 0) continue;
    const bool refused = trial->outcome == Outcome::out_of_memory;
    if (!refused && trial->outcome != Outcome::ok) continue;
    const std::int64_t bytes = refused ? trial->needed_bytes : trial->memory_peak_bytes;
    if (bytes <= 0) continue;
    const double of_this = static_cast<double>(bytes) / static_cast<double>(trial->predicted_memory_bytes);
    // What was refused is a lower bound: it only ever raises what finished trials say.
    scale = scale ? std::max(*scale, of_this) : of_this;
  }
  return scale;
}

Search::Search(const batch::Batch& batch, const devices::Machine& machine)
    : Search(wanted_trials(batch, machine), batch, machine) {}

Search::Search(std::vector<Trial> candidates, const batch::Batch& batch, const devices::Machine& machine) {
  std::map<std::tuple<int, std::string, std::string>, std::size_t> known;
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> known_families;
  for (Trial& trial : candidates) {
    const batch::Configuration& asked = trial.configuration;
    const auto [at, is_new] =
        known.emplace(std::tuple(asked.num_devices, trial.job_class, asked.device_class), groups_.size());
    if (is_new) groups_.emplace_back();
    groups_[at->second].push_back(candidates_.size());
    const auto [family, is_new_family] = known_families.emplace(
        std::tuple(trial.job_class, asked.technique, asked.device_class), families_.size());
    if (is_new_family) families_.emplace_back();
    families_[family->second].push_back(candidates_.size());
    by_id_.emplace(trial.id, candidates_.size());
    Candidate candidate{.limit_bytes = limit_of(asked, machine),
                        .group = at->second,
                        .family = family->second,
                        .named = is_named(batch, trial)};
    candidate.asked = trial.configuration.knobs;
    candidate.trial = std::move(trial);
    candidates_.push_back(std::move(candidate));
  }
}

bool Search::is_group_busy(const std::string& id) const {
  const Group& group = groups_[candidates_[by_id_.at(id)].group];
  return std::any_of(group.begin(), group.end(),
                     [&](std::size_t index) { return candidates_[index].running; });
}

void Search::start(const std::string& id) {
  candidates_[by_id_.at(id)].running = true;
}

bool Search::conclude(const Trial& trial) {
  const auto at = by_id_.find(trial.id);
  if (at == by_id_.end()) return false;
  Candidate& candidate = candidates_[at->second];
  Trial result = trial;
  result.predicted_step_time_s = candidate.trial.predicted_step_time_s;
  result.predicted_memory_bytes = candidate.trial.predicted_memory_bytes;
  candidate.trial = std::move(result);
  candidate.running = false;
  candidate.concluded = true;
  return true;
}

// The quickest that ran.
const Search::Candidate* Search::best_of(const Group& group) const {
  const Candidate* best = nullptr;
  for (const std::size_t index : group) {
    const Candidate& one = candidates_[index];
    if (!one.concluded || one.trial.outcome != Outcome::ok) continue;
    if (best == nullptr || one.trial.step_time_s < best->trial.step_time_s) best = &one;
  }
  return best;
}

const Trial* Search::rival_of(const std::string& id) const {
  const Trial& own = candidates_[by_id_.at(id)].trial;
  const Trial* rival = nullptr;
  for (const Candidate& other : candidates_) {
    const Trial& trial = other.trial;
    const bool competes = other.concluded && trial.outcome == Outcome::ok &&
                          trial.job_class == own.job_class &&
                          trial.configuration.device_class == own.configuration.device_class &&
                          trial.configuration.num_devices <= own.configuration.num_devices;
    if (competes && (rival == nullptr || trial.step_time_s < rival->step_time_s)) rival = &trial;
  }
  return rival;
}

// Measured over predicted time of a technique in a group; the kindest of its trials.
std::optional<double> Search::time_scale(const Group& group, const std::string& technique) const {
  std::optional<double> scale;
  for (const std::size_t index : group) {
    const Trial& trial = candidates_[index].trial;
    if (!candidates_[index].concluded || trial.outcome != Outcome::ok) continue;
    if (trial.configuration.technique != technique || trial.predicted_step_time_s <= 0.0) continue;
    const double of_this = trial.step_time_s / trial.predicted_step_time_s;
    scale = scale ? std::min(*scale, of_this) : of_this;
  }
  return scale;
}

double Search::predicted_s(const Group& group, const Candidate& candidate) const {
  const double plain_s = candidate.trial.predicted_step_time_s;
  if (const auto own = time_scale(group, candidate.trial.configuration.technique)) return *own * plain_s;
  const Candidate* const best = best_of(group);
  if (best == nullptr || best->trial.predicted_step_time_s <= 0.0) return plain_s;
  const batch::Configuration& best_one = best->trial.configuration;
  const double handicap =
      handicap_elsewhere(group, candidate.trial.configuration.technique, best_one.technique).value_or(1.0);
  return handicap * best->trial.step_time_s / best->trial.predicted_step_time_s * plain_s;
}

// How much worse against its predictions `technique` did than `best` in groups of as many devices of one
// kind; the kindest of them.
std::optional<double> Search::handicap_elsewhere(const Group& group, const std::string& technique,
                                                 const std::string& best) const {
  const batch::Configuration& here = candidates_[group.front()].trial.configuration;
  std::optional<double> handicap;
  for (const Group& other : groups_) {
    const batch::Configuration& there = candidates_[other.front()].trial.configuration;
    if (there.num_devices != here.num_devices || there.device_class != here.device_class) continue;
    const std::optional<double> of_this = time_scale(other, technique), of_best = time_scale(other, best);
    if (!of_this || !of_best) continue;
    handicap = std::min(handicap.value_or(*of_this / *of_best), *of_this / *of_best);
  }
  return handicap;
}

// One that ran and does what `candidate` would, quicker: with the memory that `candidate` would save, or
// without recomputing.
const Search::Candidate* Search::sibling_that_does(const Group& group, const Candidate& candidate) const {
  Json without = candidate.asked;
  const bool recomputes = without.erase("checkpointing") > 0;
  for (const std::size_t index : group) {
    const Candidate& other = candidates_[index];
    if (!other.concluded || other.trial.outcome != Outcome::ok) continue;
    if (other.trial.configuration.technique != candidate.trial.configuration.technique) continue;
    if (recomputes && other.asked == without) return &other;
    if (other.trial.predicted_step_time_s <= candidate.trial.predicted_step_time_s &&
        other.trial.predicted_memory_bytes > candidate.trial.predicted_memory_bytes)
      return &other;
  }
  return nullptr;
}

Search::Verdict Search::verdict_on_memory(const Candidate& candidate) const {
  const Trial& trial = candidate.trial;
  if (candidate.limit_bytes <= 0 || trial.predicted_memory_bytes <= 0) return {};
  std::vector<const Trial*> siblings;
  for (const std::size_t index : families_[candidate.family]) {
    const Candidate& other = candidates_[index];
    if (!other.concluded) continue;
    siblings.push_back(&other.trial);
    const bool refused = other.trial.outcome == Outcome::out_of_memory && other.trial.is_measured();
    if (refused && other.limit_bytes >= candidate.limit_bytes &&
        other.trial.predicted_memory_bytes <= trial.predicted_memory_bytes) {
      return {.kind = Verdict::Kind::too_large,
              .needed_bytes = std::max(other.trial.needed_bytes, trial.predicted_memory_bytes),
              .reason = "not tried: predicted to need no less than " +
                        batch::to_text(other.trial.configuration) + ", which ran out of memory"};
    }
  }
  const std::optional<double> scale = memory_scale(siblings);
  const double needed = scale.value_or(1.0) * static_cast<double>(trial.predicted_memory_bytes);
  const double slack = scale ? kMeasuredSlack : kFormulaSlack;
  const auto limit = static_cast<double>(candidate.limit_bytes);
  if (needed <= limit * (1.0 + slack)) return {};
  return {.kind = Verdict::Kind::too_large,
          .needed_bytes = static_cast<std::int64_t>(needed),
          .reason = "not tried: predicted to need " + format_bytes(needed) + " of " + format_bytes(limit) +
                    (scale ? ", by what " + trial.configuration.technique + " needed elsewhere" : "")};
}

Search::Verdict Search::verdict(const Group& group, const Candidate& candidate, const Candidate* best) const {
  if (Verdict memory = verdict_on_memory(candidate); memory.kind != Verdict::Kind::worth_trying)
    return memory;
  if (is_exhaustive_) return {};
  if (const Candidate* const sibling = failed_sibling(group, candidate))
    return {.kind = Verdict::Kind::failing,
            .reason = batch::to_text(sibling->trial.configuration) + " failed"};
  if (best == nullptr) return {};
  const std::string& technique = candidate.trial.configuration.technique;
  const bool measured_here = time_scale(group, technique).has_value();
  const bool has_had_its_trial = std::any_of(group.begin(), group.end(), [&](std::size_t index) {
    const Candidate& other = candidates_[index];
    return (other.concluded || other.running) && other.trial.configuration.technique == technique;
  });
  if (candidate.named && !has_had_its_trial) return {};
  if (const Candidate* const sibling = sibling_that_does(group, candidate)) {
    return {.kind = Verdict::Kind::too_slow,
            .reason = batch::to_text(sibling->trial.configuration) +
                      " fits, and is predicted to be quicker with the memory there is"};
  }
  const double best_s = best->concluded ? best->trial.step_time_s : best->trial.predicted_step_time_s;
  const double own_s = predicted_s(group, candidate);
  const bool known =
      measured_here || handicap_elsewhere(group, technique, best->trial.configuration.technique);
  if (own_s <= best_s * (1.0 + (known ? kKnobMargin : kTechniqueMargin))) return {};
  return {.kind = Verdict::Kind::too_slow,
          .reason = "predicted to take " + milliseconds(own_s) + " a step, and " +
                    batch::to_text(best->trial.configuration) + " takes " + milliseconds(best_s)};
}

// A technique whose trial failed for another reason than memory, and none of whose trials worked.
const Search::Candidate* Search::failed_sibling(const Group& group, const Candidate& candidate) const {
  const Candidate* failed = nullptr;
  for (const std::size_t index : group) {
    const Candidate& other = candidates_[index];
    if (!other.concluded || other.trial.configuration.technique != candidate.trial.configuration.technique)
      continue;
    if (other.trial.outcome == Outcome::ok) return nullptr;
    if (other.trial.outcome != Outcome::out_of_memory) failed = &other;
  }
  return failed;
}

const Trial* Search::next(std::size_t group_index) const {
  const Group& group = groups_[group_index];
  const Candidate* const best = best_of(group);
  const Candidate* chosen = nullptr;
  for (const std::size_t index : group) {
    const Candidate& one = candidates_[index];
    if (one.running) return nullptr;
    if (one.concluded || verdict(group, one, best).kind != Verdict::Kind::worth_trying) continue;
    if (chosen == nullptr || predicted_s(group, one) < predicted_s(group, *chosen)) chosen = &one;
  }
  return chosen == nullptr ? nullptr : &chosen->trial;
}

std::vector<Open> Search::open() const {
  std::vector<Open> all;
  for (const Group& group : groups_) {
    const Candidate* const best = best_of(group);
    std::map<std::string, const Candidate*> first;  // by technique
    for (const std::size_t index : group) {
      const Candidate& one = candidates_[index];
      if (one.concluded) continue;
      if (!one.running && verdict(group, one, best).kind != Verdict::Kind::worth_trying) continue;
      const Candidate*& chosen = first[one.trial.configuration.technique];
      const bool sooner = chosen == nullptr || one.running ||
                          (!chosen->running && predicted_s(group, one) < predicted_s(group, *chosen));
      if (sooner) chosen = &one;
    }
    for (const auto& [technique, one] : first)
      all.push_back({.trial = &one->trial, .is_running = one->running});
  }
  return all;
}

int Search::num_expected() const {
  int count = 0;
  for (const Group& group : groups_) {
    // Where nothing has run, the best guess stands in for the best.
    const Candidate* best = best_of(group);
    if (best == nullptr) {
      for (const std::size_t index : group) {
        const Candidate& one = candidates_[index];
        if (one.concluded || verdict_on_memory(one).kind != Verdict::Kind::worth_trying) continue;
        if (best == nullptr || one.trial.predicted_step_time_s < best->trial.predicted_step_time_s)
          best = &one;
      }
    }
    for (const std::size_t index : group) {
      const Candidate& one = candidates_[index];
      if (one.concluded) continue;
      count += one.running || verdict(group, one, best).kind == Verdict::Kind::worth_trying ? 1 : 0;
    }
  }
  return count;
}

void Search::finish(Profile& into, Untried::Why why, const std::string& reason) const {
  for (const Group& group : groups_) {
    const Candidate* const best = best_of(group);
    for (const std::size_t index : group) {
      const Candidate& one = candidates_[index];
      if (one.concluded) continue;
      Verdict left = verdict(group, one, best);
      if (left.kind == Verdict::Kind::too_large) {
        Trial trial = one.trial;
        trial.outcome = Outcome::out_of_memory;
        trial.source = Source::interpolated;
        trial.needed_bytes = left.needed_bytes;
        trial.reason = std::move(left.reason);
        into.trials.push_back(std::move(trial));
        continue;
      }
      Untried untried{.trial = one.trial, .why = why, .reason = reason};
      if (left.kind != Verdict::Kind::worth_trying) {
        untried.why = left.kind == Verdict::Kind::too_slow ? Untried::Why::slower : Untried::Why::failing;
        untried.reason = std::move(left.reason);
      }
      into.untried.push_back(std::move(untried));
    }
  }
}

}  // namespace saturn::profile
