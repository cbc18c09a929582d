// Decisions against plain restatements of the published rules.

#include "saturn/search/decide.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "saturn/base/random.h"
#include "saturn/search/rungs.h"

namespace saturn::search {
namespace {

using batch::SearchSettings;
using journal::JobRecord;
using journal::JobState;
using journal::RungDecision;
using journal::RunState;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

SearchSettings asha(int reduction_factor = 3, const std::string& goal = "min") {
  return {.method = "asha", .goal = goal, .first_rung = 10, .reduction_factor = reduction_factor};
}

SearchSettings median_of(int min_jobs, const std::string& goal = "min") {
  return {.method = "median", .goal = goal, .first_rung = 10, .min_jobs = min_jobs};
}

RunState jobs_of(int num_jobs, std::int64_t num_steps = 100) {
  RunState state;
  for (int i = 0; i < num_jobs; ++i) {
    JobRecord record{.name = "j" + std::to_string(i)};
    record.num_steps = num_steps;
    state.jobs.push_back(record);
  }
  return state;
}

// As the run loop does: the decision is journaled, and what it says comes true at once.
void obey(RunState& state, const Decision& decision) {
  JobRecord& record = *state.find(decision.job);
  const bool waits = decision.decision == RungDecision::pause;
  const bool stops = decision.decision == RungDecision::stop;
  record.state = waits ? JobState::paused : stops ? JobState::stopped_early : JobState::training;
  record.held_by_search = waits || stops;
}

Decision report(const SearchSettings& settings, RunState& state, const std::string& job, std::int64_t rung,
                double value) {
  const std::optional<double> finite = std::isfinite(value) ? std::optional(value) : std::nullopt;
  Decision decision = judge(settings, state, job, rung, finite);
  state.find(job)->rungs.push_back(
      {.rung = rung, .step = rung, .value = finite, .decision = decision.decision, .seq = state.next_seq++});
  obey(state, decision);
  return decision;
}

std::vector<Decision> follow(const SearchSettings& settings, RunState& state) {
  std::vector<Decision> all;
  for (;;) {
    const std::vector<Decision> decisions = follow_ups(settings, state);
    if (decisions.empty()) return all;
    for (const Decision& decision : decisions) {
      for (journal::RungRecord& known : state.find(decision.job)->rungs) {
        if (known.rung == decision.rung) known.decision = decision.decision;
      }
      obey(state, decision);
      all.push_back(decision);
    }
  }
}

std::set<std::string> in_state(const RunState& state, JobState wanted) {
  std::set<std::string> names;
  for (const JobRecord& record : state.jobs) {
    if (record.state == wanted) names.insert(record.name);
  }
  return names;
}

// Algorithm 2 of Li et al. 2020 over lists of what was reported: a job of rung k is promotable when it is
// among the top floor(n / eta) of the n reported there and was not promoted yet. Every promotable job is
// promoted. What is added: once nobody can come to a rung any more at least one is, and the rest is dropped.
class PlainAsha {
 public:
  PlainAsha(int eta, std::vector<std::int64_t> rungs, int num_jobs)
      : eta_(eta), rungs_(std::move(rungs)), num_jobs_(num_jobs) {}

  void report(const std::string& job, std::size_t rung, double loss) {
    results_[rung].push_back({std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity(), job});
    promote_all();
  }
  void fail(const std::string& job) {
    failed_.insert(job);
    promote_all();
  }
  const std::set<std::string>& dropped() const { return dropped_; }
  bool goes_on(const std::string& job, std::size_t rung) const {
    return promoted_.contains({rung, job}) && !failed_.contains(job);
  }

 private:
  void promote_all() {
    for (bool again = true; again;) {
      again = false;
      for (std::size_t k = 0; k < rungs_.size(); ++k) again |= promote(k);
    }
  }

  bool promote(std::size_t k) {
    std::vector<std::pair<double, std::string>> sorted;
    for (const auto& one : results_[k]) {
      if (!failed_.contains(one.second)) sorted.push_back(one);
    }
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::size_t top = sorted.size() / static_cast<std::size_t>(eta_);
    const bool closed = nobody_comes(k);
    if (closed) top = std::max<std::size_t>(top, 1);
    bool changed = false;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      const std::string& job = sorted[i].second;
      if (promoted_.contains({k, job})) continue;
      if (i < top && std::isfinite(sorted[i].first)) {
        promoted_.insert({k, job});
        dropped_.erase(job);
        changed = true;
      } else if (closed && dropped_.insert(job).second) {
        changed = true;
      }
    }
    return changed;
  }

  bool nobody_comes(std::size_t k) const {
    std::set<std::string> there;
    if (const auto found = results_.find(k); found != results_.end()) {
      for (const auto& one : found->second) there.insert(one.second);
    }
    for (int i = 0; i < num_jobs_; ++i) {
      const std::string job = "j" + std::to_string(i);
      if (!there.contains(job) && !failed_.contains(job) && !dropped_.contains(job)) return false;
    }
    return true;
  }

  int eta_;
  std::vector<std::int64_t> rungs_;
  int num_jobs_;
  std::map<std::size_t, std::vector<std::pair<double, std::string>>> results_;
  std::set<std::pair<std::size_t, std::string>> promoted_;
  std::set<std::string> dropped_;
  std::set<std::string> failed_;
};

TEST_SUITE("search") {
  TEST_CASE("search/asha: a thousand random searches are decided as the plain algorithm says") {
    for (std::uint64_t seed = 0; seed < 1000; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const int num_jobs = 1 + static_cast<int>(random.below(20));
      const int eta = 2 + static_cast<int>(random.below(3));
      const SearchSettings settings = asha(eta, seed % 2 == 0 ? "min" : "max");
      const double sign = seed % 2 == 0 ? 1.0 : -1.0;
      RunState state = jobs_of(num_jobs);
      const std::vector<std::int64_t> rungs = rungs_of(settings, 100);
      PlainAsha plain(eta, rungs, num_jobs);
      // Whoever may train reports next, in random order; values are coarse so that some are equal.
      for (;;) {
        std::vector<JobRecord*> training;
        for (JobRecord& record : state.jobs) {
          if (record.state == JobState::pending || record.state == JobState::training)
            training.push_back(&record);
        }
        if (training.empty()) break;
        JobRecord& record = *training[random.below(training.size())];
        const std::size_t k = record.rungs.size();
        if (random.below(20) == 0) {
          record.state = JobState::failed;
          plain.fail(record.name);
        } else if (k == rungs.size()) {
          record.state = JobState::done;
        } else {
          const bool diverges = random.below(15) == 0;
          const double loss = diverges ? kNan : static_cast<double>(random.below(8));
          report(settings, state, record.name, rungs[k], sign * loss);
          plain.report(record.name, k, loss);
        }
        follow(settings, state);
        for (const JobRecord& one : state.jobs) {
          CAPTURE(one.name);
          CHECK((one.state == JobState::stopped_early) ==
                (plain.dropped().contains(one.name) && one.state != JobState::failed));
          if (one.rungs.empty() || one.state == JobState::done || one.state == JobState::failed) continue;
          CHECK((one.state == JobState::training) == plain.goes_on(one.name, one.rungs.size() - 1));
        }
      }
      CHECK(in_state(state, JobState::paused).empty());
    }
  }

  TEST_CASE("search/asha: the first jobs wait until there are enough and the best is let go then") {
    RunState state = jobs_of(9);
    CHECK(report(asha(), state, "j0", 10, 3.0).decision == RungDecision::pause);
    CHECK(report(asha(), state, "j1", 10, 2.0).decision == RungDecision::pause);
    CHECK(follow(asha(), state).empty());
    CHECK(report(asha(), state, "j2", 10, 2.5).decision == RungDecision::pause);
    const std::vector<Decision> next = follow(asha(), state);
    REQUIRE(next.size() == 1);
    CHECK(next[0].job == "j1");
    CHECK(next[0].decision == RungDecision::promote);
    CHECK(next[0].reason == "at step 10 its validation_loss 2, 1 of 3: among the best 1 now");
    // One that is the best at once goes on without waiting.
    report(asha(), state, "j3", 10, 9.0);
    report(asha(), state, "j4", 10, 9.0);
    CHECK(report(asha(), state, "j5", 10, 1.0).decision == RungDecision::go_on);
  }

  TEST_CASE("search/asha: equal values rank in the order in which they came") {
    RunState state = jobs_of(9);
    report(asha(), state, "j4", 10, 1.0);
    report(asha(), state, "j2", 10, 1.0);
    report(asha(), state, "j0", 10, 1.0);
    const std::vector<Decision> next = follow(asha(), state);
    REQUIRE(next.size() == 1);
    CHECK(next[0].job == "j4");
  }

  TEST_CASE("search/asha: fewer jobs than the reduction factor still bring one to its end") {
    RunState state = jobs_of(2);
    report(asha(), state, "j0", 10, 2.0);
    CHECK(follow(asha(), state).empty());
    report(asha(), state, "j1", 10, 1.0);
    const std::vector<Decision> next = follow(asha(), state);
    CHECK(in_state(state, JobState::training) == std::set<std::string>{"j1"});
    CHECK(in_state(state, JobState::stopped_early) == std::set<std::string>{"j0"});
    CHECK(next.size() == 2);
  }

  TEST_CASE("search/asha: where no value is finite nobody goes on and nobody waits for ever") {
    RunState state = jobs_of(4);
    for (const char* const job : {"j0", "j1", "j2", "j3"}) report(asha(), state, job, 10, kNan);
    follow(asha(), state);
    CHECK(in_state(state, JobState::stopped_early).size() == 4);
  }

  TEST_CASE("search/asha: the next best takes the place of one that fails further up") {
    RunState state = jobs_of(3);
    report(asha(), state, "j0", 10, 1.0);
    report(asha(), state, "j1", 10, 2.0);
    report(asha(), state, "j2", 10, 3.0);
    follow(asha(), state);
    CHECK(in_state(state, JobState::stopped_early) == std::set<std::string>{"j1", "j2"});
    state.find("j0")->state = JobState::failed;
    const std::vector<Decision> next = follow(asha(), state);
    REQUIRE(next.size() == 1);
    CHECK(next[0].job == "j1");
    CHECK(next[0].decision == RungDecision::promote);
  }

  TEST_CASE("search/asha: a rung stays open for a job that a person has paused") {
    RunState state = jobs_of(2);
    report(asha(), state, "j0", 10, 2.0);
    state.find("j1")->state = JobState::paused;
    CHECK(follow(asha(), state).empty());
    state.find("j1")->state = JobState::cancelled;
    CHECK(follow(asha(), state).size() == 1);
  }

  TEST_CASE("search/asha: jobs of other lengths are compared at the rungs that they have") {
    RunState state = jobs_of(3);
    state.find("j2")->num_steps = 10;  // no rung before its end
    report(asha(), state, "j0", 10, 2.0);
    report(asha(), state, "j1", 10, 1.0);
    follow(asha(), state);
    CHECK(in_state(state, JobState::training) == std::set<std::string>{"j1"});
  }

  TEST_CASE("search/median: one that is worse than the median of the averages is stopped") {
    const SearchSettings settings = median_of(3);
    RunState state = jobs_of(6);
    // Averages up to step 20: 2.0, 3.0, 4.0.
    for (const auto& [job, first, second] :
         {std::tuple("j0", 2.5, 1.5), std::tuple("j1", 3.5, 2.5), std::tuple("j2", 5.0, 3.0)}) {
      CHECK(report(settings, state, job, 10, first).decision == RungDecision::go_on);
      CHECK(report(settings, state, job, 20, second).decision == RungDecision::go_on);
    }
    CHECK(report(settings, state, "j3", 10, 4.0).decision ==
          RungDecision::stop);  // median of 2.5, 3.5, 5 is 3.5
    CHECK(report(settings, state, "j4", 10, 3.0).decision == RungDecision::go_on);
    CHECK(report(settings, state, "j4", 20, 9.0).decision ==
          RungDecision::go_on);  // its best is 3.0: not worse
    CHECK(report(settings, state, "j5", 10, 3.3).decision == RungDecision::go_on);
    CHECK(report(settings, state, "j5", 20, 3.6).decision ==
          RungDecision::go_on);  // median of 2, 3, 4, 6 is 3.5
    CHECK(follow_ups(settings, state).empty());
  }

  TEST_CASE("search/median: what is not finite is stopped whoever is there and compares with nobody") {
    const SearchSettings settings = median_of(1);
    RunState state = jobs_of(3);
    CHECK(report(settings, state, "j0", 10, kNan).decision == RungDecision::stop);
    CHECK(report(settings, state, "j1", 10, 5.0).decision == RungDecision::go_on);
    CHECK(report(settings, state, "j2", 10, 6.0).decision == RungDecision::stop);
  }

  TEST_CASE("search/median: with the goal max the smaller value is the worse one") {
    const SearchSettings settings = median_of(1, "max");
    RunState state = jobs_of(3);
    report(settings, state, "j0", 10, 0.5);
    CHECK(report(settings, state, "j1", 10, 0.4).decision == RungDecision::stop);
    CHECK(report(settings, state, "j2", 10, 0.6).decision == RungDecision::go_on);
  }

  TEST_CASE("search/expected_end: each rung is reached by the share that goes on from those before") {
    CHECK(expected_end({}, nullptr, nullptr, 0, 100) == 100);
    // 10 + 20 / 3 + 60 / 9 + 10 / 27 = 23.7
    CHECK(expected_end(asha(), nullptr, nullptr, 0, 100) == 24);
    // At rung 10 it went on: 20 steps to the next, then 60 / 3 and 10 / 9.
    RunState state = jobs_of(3);
    report(asha(), state, "j0", 10, 1.0);
    CHECK(expected_end(asha(), &state, state.find("j0"), 10, 100) == 10 + 20 + 20 + 2);
    CHECK(expected_end(asha(), &state, state.find("j1"), 4, 100) == 24);
    // Never before the next step, never beyond the last.
    CHECK(expected_end(asha(1000), nullptr, nullptr, 0, 12) == 11);
    CHECK(expected_end(asha(), &state, state.find("j0"), 99, 100) == 100);
  }

  TEST_CASE("search/expected_end: under median the share is a half until more is known") {
    const SearchSettings settings{.method = "median", .goal = "min", .first_rung = 50, .min_jobs = 1};
    CHECK(expected_end(settings, nullptr, nullptr, 0, 100) == 75);
    RunState state = jobs_of(5);
    for (int i = 0; i < 4; ++i) report(settings, state, "j" + std::to_string(i), 50, 4.0 - i);
    // All four went on: (2 + 4) of (4 + 4).
    CHECK(expected_end(settings, &state, state.find("j4"), 0, 100) == 50 + 38);
  }

  TEST_CASE("search/expected_end: two hundred jobs of a search are planned as the few that it trains") {
    const SearchSettings settings{.method = "asha", .goal = "min", .first_rung = 10, .reduction_factor = 4};
    std::int64_t planned = 0;
    for (int i = 0; i < 200; ++i) planned += expected_end(settings, nullptr, nullptr, 0, 1000);
    CHECK(planned <= 200 * 1000 / 20);
  }
}

}  // namespace
}  // namespace saturn::search
