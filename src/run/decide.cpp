// The decisions of the run loop.

#include "saturn/run/decide.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace saturn::run {
namespace {

using journal::JobRecord;
using journal::JobState;

constexpr double kFirstBackOffS = 1.0;
constexpr double kLongestBackOffS = 60.0;
constexpr int kSameFailures = 3;
constexpr int kSameBeginnings = 2;

constexpr double kHangFactor = 20.0;
constexpr double kLeastStepLimitS = 30.0;
constexpr double kLeastOtherLimitS = 300.0;  // a cold disk reads, and a busy one syncs, for minutes
constexpr double kUnmeasuredLimitS = 900.0;
constexpr double kLeastGraceS = 5.0;

constexpr std::pair<const char*, Policy> kPolicies[] = {
    {"out_of_memory", Policy::strike},       // of the device, or of the slot's limit
    {"host_out_of_memory", Policy::strike},  // of the machine
    {"unsupported", Policy::strike},
    {"device_lost", Policy::drain_device},
    {"rank_lost", Policy::restart},
    {"hang", Policy::restart},
    {"killed", Policy::restart},  // by somebody's signal
    {"peer_lost", Policy::restart},
    {"internal", Policy::restart},
    {"numerical", Policy::fail},  // after its budget of skipped steps
    {"data", Policy::fail},
    {"disk_full", Policy::fail},
    {"bad_configuration", Policy::fail},
};

// Devices that are spoken for, in plan order.
class Claims {
 public:
  void claim(const std::vector<plan::Device>& devices) {
    for (const plan::Device& device : devices) {
      if (is_free(device)) claimed_.push_back(device);
    }
  }
  bool all_free(const std::vector<plan::Device>& devices) const {
    return std::all_of(devices.begin(), devices.end(),
                       [&](const plan::Device& device) { return is_free(device); });
  }
  int size() const { return static_cast<int>(claimed_.size()); }

 private:
  bool is_free(const plan::Device& device) const {
    return std::find(claimed_.begin(), claimed_.end(), device) == claimed_.end();
  }
  std::vector<plan::Device> claimed_;
};

bool is_struck(const JobRecord& record, const std::string& trial) {
  return std::any_of(record.struck.begin(), record.struck.end(),
                     [&](const journal::Struck& struck) { return struck.trial == trial; });
}

// How often the job failed in this way at this step in one row, the present failure included.
int num_same_failures(const AttemptEnd& end, const JobRecord& record) {
  int same = 1;
  for (auto at = record.attempts.rbegin(); at != record.attempts.rend(); ++at) {
    if (!at->end_s) continue;  // the attempt that is ending
    if (at->error_class != end.error_class || at->last_step != end.step) break;
    ++same;
  }
  return same;
}

std::string ordinal(int n) {
  if (n == 2) return "second";
  if (n == 3) return "third";
  return std::to_string(n) + "th";
}

}  // namespace

std::int64_t resume_step(const JobRecord& record) {
  return record.checkpoint ? record.checkpoint->step : 0;
}

Moves next_moves(const Situation& situation) {
  Moves moves;
  moves.finished = true;
  Claims claims;
  claims.claim(situation.excluded);
  for (const JobRecord& record : situation.state.jobs) {
    const bool running = journal::is_running(record.state);
    if (running) claims.claim(record.last_attempt()->devices);
    const bool waits = record.state == JobState::pending && situation.selected.contains(record.name);
    if (running || waits) moves.finished = false;
  }

  std::set<std::string> looked_at;
  int num_held = claims.size() - static_cast<int>(situation.excluded.size());
  for (const plan::Assignment& assignment : situation.plan.assignments) {
    const JobRecord* const record = situation.state.find(assignment.job);
    if (record == nullptr || record->state != JobState::pending ||
        !situation.selected.contains(assignment.job))
      continue;
    if (assignment.to_step <= resume_step(*record) || is_struck(*record, assignment.trial)) continue;
    // The next segment of the job; those after it wait for its end.
    if (!looked_at.insert(assignment.job).second) continue;
    const bool free = claims.all_free(assignment.devices);
    claims.claim(assignment.devices);
    if (free && record->not_before_s <= situation.time_s) {
      moves.start.push_back(&assignment);
      num_held += static_cast<int>(assignment.devices.size());
      continue;
    }
    if (free)
      moves.wake_at_s = std::min(moves.wake_at_s.value_or(record->not_before_s), record->not_before_s);
    moves.num_standby += assignment.num_ranks;
  }
  moves.num_standby = std::min(moves.num_standby, num_held);
  return moves;
}

Policy policy_of(const std::string& error_class) {
  for (const auto& [name, policy] : kPolicies) {
    if (error_class == name) return policy;
  }
  SATURN_CHECK(false, "every class of failure has a policy");
  return Policy::fail;
}

std::vector<std::string> failure_classes() {
  std::vector<std::string> names;
  for (const auto& [name, policy] : kPolicies) names.emplace_back(name);
  return names;
}

Verdict verdict_on(const AttemptEnd& end, const JobRecord& record, const batch::RunSettings& settings) {
  if (end.finished && end.step >= record.num_steps) return {.next = JobState::done};
  const journal::Attempt* const attempt = record.last_attempt();
  const bool requested = attempt != nullptr && attempt->requested;
  if (end.error_class.empty() || requested) {
    return {.next = requested ? attempt->next : JobState::pending,
            .message = end.message.empty() ? record.reason : end.message};
  }

  switch (policy_of(end.error_class)) {
    case Policy::strike:
      return {.next = JobState::pending, .strike = true, .message = end.message};
    case Policy::drain_device:
      return {.next = JobState::pending, .drain = true, .message = end.message};
    case Policy::fail:
      if (end.error_class == "data" && attempt != nullptr && !attempt->resume_from.empty() &&
          !end.made_progress) {
        return {
            .next = JobState::pending,
            .drop_checkpoint = true,
            .message = "its checkpoint cannot be continued from (" + end.message + "): from the beginning"};
      }
      return {.next = JobState::failed, .message = end.message};
    case Policy::restart:
      break;
  }

  const int failures = record.num_failures() + 1;
  const int same = num_same_failures(end, record);
  // What cannot even begin in this way may begin in another.
  if (end.error_class == "internal" && !end.made_progress && same >= kSameBeginnings)
    return {.next = JobState::pending, .strike = true, .message = end.message};
  // A signal from outside says nothing of the step it came at.
  if (same >= kSameFailures && end.error_class != "killed") {
    return {.next = JobState::failed,
            .message = end.message + ", three times at step " + std::to_string(end.step)};
  }
  if (failures > settings.max_restarts) {
    return {
        .next = JobState::failed,
        .message = failures == 1 ? end.message : end.message + ", for the " + ordinal(failures) + " time"};
  }
  return {.next = JobState::pending,
          .retry_after_s = std::min(kLongestBackOffS, kFirstBackOffS * std::exp2(failures - 1)),
          .message = end.message};
}

double hang_limit_s(const std::string& doing, const profile::Trial* trial, double longest_step_s) {
  const double step_s = trial == nullptr ? 0.0 : trial->step_time_s + 3.0 * trial->step_time_spread_s;
  if (doing == "step") return std::max(kLeastStepLimitS, kHangFactor * std::max(step_s, longest_step_s));
  if (trial == nullptr) return kUnmeasuredLimitS;
  double measured_s = trial->start_time_s + trial->load_time_s;
  if (doing == "saving") measured_s = trial->save_time_s;
  if (doing == "evaluating") measured_s = trial->evaluate_time_s;
  if (doing == "writing the model") measured_s = trial->end_time_s;
  return std::max(kLeastOtherLimitS, kHangFactor * measured_s);
}

double stop_grace_s(const profile::Trial* trial, double step_time_s, double save_time_s) {
  if (trial != nullptr) {
    step_time_s = std::max(step_time_s, trial->step_time_s);
    save_time_s = std::max(save_time_s, trial->save_time_s);
  }
  return kLeastGraceS + 2.0 * step_time_s + 3.0 * save_time_s;
}

}  // namespace saturn::run
