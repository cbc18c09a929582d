// Successive halving and median stopping.

#include "saturn/search/decide.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "saturn/base/statistics.h"
#include "saturn/base/units.h"
#include "saturn/search/rungs.h"

namespace saturn::search {
namespace {

using batch::SearchSettings;
using journal::JobRecord;
using journal::JobState;
using journal::RungDecision;
using journal::RungRecord;
using journal::RunState;

constexpr double kWorst = std::numeric_limits<double>::infinity();

// What a share is taken to be before it was seen: as if so many jobs had been judged.
constexpr double kPriorJobs = 4.0;
constexpr double kPriorShare = 0.5;

// Smaller is better; what was not finite is worst.
double loss_of(const SearchSettings& settings, std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return kWorst;
  return settings.goal == "max" ? -*value : *value;
}

const RungRecord* at_rung(const JobRecord& record, std::int64_t rung) {
  const auto at =
      std::lower_bound(record.rungs.begin(), record.rungs.end(), rung,
                       [](const RungRecord& known, std::int64_t wanted) { return known.rung < wanted; });
  return at == record.rungs.end() || at->rung != rung ? nullptr : &*at;
}

bool has_fallen_out(const JobRecord& record) {
  return record.state == JobState::failed || record.state == JobState::cancelled;
}

bool goes_on(RungDecision decision) {
  return decision == RungDecision::go_on || decision == RungDecision::promote;
}

// A job that was judged at a rung.
struct Entry {
  const JobRecord* record = nullptr;
  double loss = kWorst;
  std::int64_t seq = 0;
  bool ahead = false;  // it went on from the rung, or is at its end
};

// Best first.
std::vector<Entry> ranking(const SearchSettings& settings, const RunState& state, std::int64_t rung) {
  std::vector<Entry> entries;
  for (const JobRecord& record : state.jobs) {
    const RungRecord* const known = at_rung(record, rung);
    if (known == nullptr || has_fallen_out(record)) continue;
    entries.push_back({.record = &record,
                       .loss = loss_of(settings, known->value),
                       .seq = known->seq,
                       .ahead = goes_on(known->decision) || record.state == JobState::done});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.loss != b.loss ? a.loss < b.loss : a.seq < b.seq;
  });
  return entries;
}

// Whether the job may still come to a rung that it has not been judged at.
bool may_come(const JobRecord& record, std::int64_t rung) {
  if (record.num_steps <= rung || at_rung(record, rung) != nullptr) return false;
  if (has_fallen_out(record) || record.state == JobState::done) return false;
  if (record.rungs.empty()) return true;
  return record.rungs.back().rung < rung && record.rungs.back().decision != RungDecision::stop;
}

std::string value_text(const SearchSettings& settings, std::optional<double> value) {
  return settings.metric + (value && std::isfinite(*value) ? " " + format_number(*value) : " is not finite");
}

std::string at_text(const SearchSettings& settings, std::int64_t rung, std::optional<double> value) {
  return "at step " + std::to_string(rung) + " its " + value_text(settings, value);
}

// ---- asha

std::vector<Decision> follow_ups_at(const SearchSettings& settings, const RunState& state,
                                    std::int64_t rung) {
  const std::vector<Entry> ranked = ranking(settings, state, rung);
  if (ranked.empty()) return {};
  const bool closed = std::none_of(state.jobs.begin(), state.jobs.end(),
                                   [&](const JobRecord& record) { return may_come(record, rung); });
  const std::size_t share = ranked.size() / static_cast<std::size_t>(settings.reduction_factor);
  const std::size_t quota = closed ? std::max<std::size_t>(1, share) : share;
  std::vector<Decision> decisions;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    const Entry& entry = ranked[i];
    if (entry.ahead) continue;
    const RungRecord& known = *at_rung(*entry.record, rung);
    const std::string rank = ", " + std::to_string(i + 1) + " of " + std::to_string(ranked.size());
    const std::string said = at_text(settings, rung, known.value) + rank;
    if (i < quota && std::isfinite(entry.loss)) {
      decisions.push_back({entry.record->name, rung, RungDecision::promote,
                           said + ": among the best " + std::to_string(quota) + " now"});
    } else if (closed && known.decision == RungDecision::pause) {
      decisions.push_back({entry.record->name, rung, RungDecision::stop,
                           said + ", and no other can come: the best " + std::to_string(quota) + " go on"});
    }
  }
  return decisions;
}

Decision judge_asha(const SearchSettings& settings, const RunState& state, const std::string& job,
                    std::int64_t rung, std::optional<double> value) {
  std::vector<Entry> ranked = ranking(settings, state, rung);
  std::erase_if(ranked, [&](const Entry& entry) { return entry.record->name == job; });
  const double loss = loss_of(settings, value);
  const auto better = static_cast<std::size_t>(
      std::count_if(ranked.begin(), ranked.end(), [&](const Entry& entry) { return entry.loss <= loss; }));
  const std::size_t n = ranked.size() + 1;
  const std::size_t quota = n / static_cast<std::size_t>(settings.reduction_factor);
  const bool among = better < quota && std::isfinite(loss);
  return {job, rung, among ? RungDecision::go_on : RungDecision::pause,
          at_text(settings, rung, value) + ", " + std::to_string(better + 1) + " of " + std::to_string(n) +
              ": the best " + std::to_string(quota) + " go on"};
}

// ---- median

// Of what was finite up to the rung; nothing where nothing was.
std::optional<double> average_up_to(const SearchSettings& settings, const JobRecord& record,
                                    std::int64_t rung) {
  double sum = 0.0;
  int n = 0;
  for (const RungRecord& known : record.rungs) {
    const double loss = loss_of(settings, known.value);
    if (known.rung > rung || !std::isfinite(loss)) continue;
    sum += loss;
    ++n;
  }
  return n == 0 ? std::nullopt : std::optional(sum / n);
}

Decision judge_median(const SearchSettings& settings, const RunState& state, const std::string& job,
                      std::int64_t rung, std::optional<double> value) {
  const std::string said = at_text(settings, rung, value);
  if (!std::isfinite(loss_of(settings, value))) return {job, rung, RungDecision::stop, said};
  std::vector<double> others;
  double best = loss_of(settings, value);
  for (const JobRecord& record : state.jobs) {
    if (record.name == job) {
      for (const RungRecord& known : record.rungs) best = std::min(best, loss_of(settings, known.value));
    } else if (at_rung(record, rung) != nullptr && !has_fallen_out(record)) {
      if (const std::optional<double> average = average_up_to(settings, record, rung))
        others.push_back(*average);
    }
  }
  if (others.size() < static_cast<std::size_t>(settings.min_jobs))
    return {job, rung, RungDecision::go_on,
            said + "; " + std::to_string(others.size()) + " others to compare with"};
  const double middle = median(others);
  const bool worse = best > middle;
  const double shown = settings.goal == "max" ? -middle : middle;
  return {job, rung, worse ? RungDecision::stop : RungDecision::go_on,
          said + "; the median of " + std::to_string(others.size()) + " others is " + format_number(shown)};
}

// ---- Expectations

// Share of the jobs at a rung that go on from it.
double share_going_on(const SearchSettings& settings, const RunState* state, std::int64_t rung) {
  if (settings.method == "asha") return 1.0 / settings.reduction_factor;
  double judged = kPriorJobs;
  double going_on = kPriorJobs * kPriorShare;
  if (state != nullptr) {
    for (const JobRecord& record : state->jobs) {
      const RungRecord* const known = at_rung(record, rung);
      if (known == nullptr) continue;
      judged += 1.0;
      going_on += goes_on(known->decision) ? 1.0 : 0.0;
    }
  }
  return going_on / judged;
}

}  // namespace

Decision judge(const SearchSettings& settings, const RunState& state, const std::string& job,
               std::int64_t rung, std::optional<double> value) {
  if (settings.method == "asha") return judge_asha(settings, state, job, rung, value);
  return judge_median(settings, state, job, rung, value);
}

std::vector<Decision> follow_ups(const SearchSettings& settings, const RunState& state) {
  if (settings.method != "asha") return {};
  std::int64_t longest = 0;
  for (const JobRecord& record : state.jobs) longest = std::max(longest, record.num_steps);
  for (const std::int64_t rung : rungs_of(settings, longest)) {
    std::vector<Decision> decisions = follow_ups_at(settings, state, rung);
    if (!decisions.empty()) return decisions;
  }
  return {};
}

std::int64_t expected_end(const SearchSettings& settings, const RunState* state, const JobRecord* record,
                          std::int64_t from_step, std::int64_t num_steps) {
  double expected = static_cast<double>(from_step);
  double share = 1.0;
  std::int64_t at = from_step;
  for (const std::int64_t rung : rungs_of(settings, num_steps)) {
    const bool judged = record != nullptr && !record->rungs.empty() && record->rungs.back().rung >= rung;
    if (judged) continue;
    expected += share * static_cast<double>(std::max<std::int64_t>(0, rung - at));
    share *= share_going_on(settings, state, rung);
    at = std::max(at, rung);
  }
  expected += share * static_cast<double>(num_steps - at);
  return std::clamp(static_cast<std::int64_t>(std::ceil(expected - 1e-9)), std::min(from_step + 1, num_steps),
                    num_steps);
}

}  // namespace saturn::search
