// Predictions stand in the journal, at the start of each attempt, and in the profile.

#include "saturn/run/accuracy.h"

#include <cmath>
#include <utility>

#include "saturn/base/statistics.h"
#include "saturn/journal/summary.h"
#include "saturn/run/progress.h"

namespace saturn::run {
namespace {

std::optional<Prediction> compared(double predicted, double measured) {
  if (!(predicted > 0.0) || !(measured > 0.0)) return std::nullopt;
  return Prediction{.predicted = predicted, .measured = measured};
}

AttemptAccuracy accuracy_of(const journal::JobRecord& record, const journal::Attempt& attempt,
                            const profile::Trial* trial) {
  AttemptAccuracy of{.job = record.name,
                     .number = attempt.number,
                     .technique = attempt.technique,
                     .num_devices = attempt.num_devices};
  if (attempt.pace.num_timed >= kFewestTimedSteps)
    of.step_s = compared(attempt.predicted_step_s, attempt.pace.typical_s);
  if (attempt.first_step_s) {
    const double first_s = attempt.pace.num_timed > 0 ? attempt.pace.typical_s : attempt.predicted_step_s;
    of.start_s = compared(attempt.predicted_start_s, *attempt.first_step_s - attempt.start_s - first_s);
  }
  const bool whole = attempt.end_s && attempt.error_class.empty() && !attempt.requested;
  if (whole) of.total_s = compared(attempt.predicted_s, *attempt.end_s - attempt.start_s);
  if (trial == nullptr) return of;
  of.save_s = compared(trial->save_time_s, attempt.save_s);
  if (record.attempts.size() == 1)
    of.memory_bytes = compared(static_cast<double>(trial->memory_peak_bytes),
                               static_cast<double>(record.memory_peak_bytes));
  return of;
}

}  // namespace

Accuracy accuracy_of(const journal::RunState& state, const profile::Profile& profile) {
  Accuracy accuracy;
  const journal::Summary summary = journal::summarise(state);
  if (summary.predicted_makespan_s && state.all_final())
    accuracy.makespan_s = compared(*summary.predicted_makespan_s, summary.makespan_s);
  for (const journal::JobRecord& record : state.jobs) {
    for (const journal::Attempt& attempt : record.attempts)
      accuracy.attempts.push_back(accuracy_of(record, attempt, profile.find_id(attempt.trial)));
  }
  return accuracy;
}

std::optional<double> typical_error(const Accuracy& accuracy,
                                    std::optional<Prediction> AttemptAccuracy::*quantity) {
  std::vector<double> errors;
  for (const AttemptAccuracy& attempt : accuracy.attempts) {
    if (const std::optional<Prediction>& prediction = attempt.*quantity)
      errors.push_back(std::abs(prediction->error()));
  }
  if (errors.empty()) return std::nullopt;
  return median(std::move(errors));
}

}  // namespace saturn::run
