// Messages of a trial, and its figures.

#include "profile/trial_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "saturn/base/statistics.h"

namespace saturn::profile {
namespace {

constexpr double kTimedS = 1.0;     // short steps are timed for about this long
constexpr int kMaxTrialSteps = 64;  // ... but never more of them
constexpr double kHopeless = 1.25;  // times as slow as its rival: the batch's own steps are enough
constexpr double kDominated = 1.5;  // ... and here so many of them
constexpr std::size_t kDominatedSteps = 2;
constexpr double kSlotFlops = 2.0e10;  // of a CPU slot's thread: only sizes the timing, never enters a result

}  // namespace

TrialRun::Heard TrialRun::hear_event(const worker::WorkerEvent& event) {
  if (const auto* ended = std::get_if<worker::Ended>(&event.what)) {
    --num_living;
    ended_s = event.time_s;
    host_memory_died |= ended->out_of_host_memory;
    if (death.empty() && !ended->asked && (ended->exit_code != 0 || ended->signal != 0))
      death = "rank " + std::to_string(event.rank) + " ended with " + ended->reason;
    // The others wait for a peer that is gone; one that is done has only been quicker than they.
    const bool lost = ended->exit_code != 0 || ended->signal != 0;
    return lost && num_living > 0 && !finished && !stopped ? Heard::lost_a_rank : Heard::nothing;
  }
  const auto& message = std::get<worker::FromRank>(event.what);
  if (const auto* step = std::get_if<worker::Step>(&message)) {
    if (event.rank != 0) return Heard::nothing;
    ++num_steps_seen;
    last_step = step->step;
    if (first_step_s <= 0.0) first_step_s = event.time_s;
    if (num_steps_seen > warmup_steps) step_times_s.push_back(step->step_time_s);
    return Heard::step_of_rank_0;
  }
  if (const auto* error = std::get_if<worker::Error>(&message)) {
    hear(*error);
  } else if (const auto* done = std::get_if<worker::Finished>(&message)) {
    memory_peak_bytes = std::max(memory_peak_bytes, done->memory_peak_bytes);
    host_memory_peak_bytes += done->host_memory_peak_bytes;
    if (event.rank == 0) {
      finished = *done;
      finished_s = event.time_s;
    }
  }
  return Heard::nothing;
}

bool TrialRun::has_been_timed(const Trial* rival, bool hurry) const {
  const std::vector<double>& times = step_times_s;
  const bool dominated = rival != nullptr && times.size() >= kDominatedSteps &&
                         *std::min_element(times.begin(), times.end()) > kDominated * rival->step_time_s;
  if (dominated) return true;
  if (static_cast<int>(times.size()) < fewest_steps) return false;
  if (hurry || std::accumulate(times.begin(), times.end(), 0.0) >= kTimedS) return true;
  return rival != nullptr && median(times) > kHopeless * rival->step_time_s;
}

Trial TrialRun::concluded(const batch::Job& job, double timeout_s) const {
  Trial result = trial;
  const std::string log = directory + "/log.txt";
  const auto failed = [&](Outcome outcome, const std::string& reason) {
    result.outcome = outcome;
    result.reason = reason;
    return result;
  };
  if (const auto failure = failure_of(*this, timeout_s, log)) {
    result.needed_bytes = failure->needed_bytes;
    return failed(failure->outcome, failure->reason);
  }
  if (step_times_s.empty()) return failed(Outcome::failed, "it timed no step; see " + log);

  result.outcome = Outcome::ok;
  if (!finished->knobs.empty()) result.configuration.knobs = finished->knobs;
  result.step_time_s = median(step_times_s);
  result.step_time_spread_s = robust_deviation(step_times_s);
  if (result.step_time_s <= 0.0) return failed(Outcome::failed, "its steps took no time; see " + log);
  result.samples_per_s = job.batch_size / result.step_time_s;
  result.memory_peak_bytes = memory_peak_bytes;
  result.disk_bytes = static_cast<std::int64_t>(time_of(*finished, "disk_bytes"));
  result.host_memory_peak_bytes = host_memory_peak_bytes;
  // What the first steps cost beyond a usual one belongs to the start.
  result.start_time_s = std::max(0.0, first_step_s - launched_s - result.step_time_s);
  result.save_time_s = time_of(*finished, "save_s");
  result.load_time_s = time_of(*finished, "load_s");
  result.evaluate_time_s = time_of(*finished, "evaluate_s");
  result.end_time_s = time_of(*finished, "export_s") + std::max(0.0, ended_s - finished_s);
  return result;
}

void TrialRun::tidy(const Trial& result) const {
  std::error_code ignored;
  if (result.outcome == Outcome::ok) {
    std::filesystem::remove_all(directory, ignored);
    return;
  }
  std::vector<std::filesystem::path> scratch;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (!entry.path().filename().string().starts_with("log.")) scratch.push_back(entry.path());
  }
  for (const std::filesystem::path& path : scratch) std::filesystem::remove_all(path, ignored);
}

int num_timed_steps(const batch::Job& job, const batch::DataSource& data,
                    const batch::Configuration& configuration, int asked) {
  if (configuration.device_class != "cpu") return asked;
  const double flops = batch::flops_per_sample(job.model, data) * job.batch_size;
  const double step_s = flops / (kSlotFlops * configuration.num_devices);
  const double steps = step_s > 0.0 ? std::ceil(kTimedS / step_s) : 0.0;
  return std::max(asked, static_cast<int>(std::min<double>(steps, kMaxTrialSteps)));
}

}  // namespace saturn::profile
