// What was predicted of a run, beside what it came to.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "saturn/journal/run_state.h"
#include "saturn/profile/profile.h"

namespace saturn::run {

struct Prediction {
  double predicted = 0.0;
  double measured = 0.0;

  /// predicted / measured - 1.
  double error() const { return predicted / measured - 1.0; }
};

/// Of one attempt; what was not predicted, or not measured, is absent. Seconds and bytes.
struct AttemptAccuracy {
  std::string job;
  int number = 0;
  std::string technique;
  int num_devices = 0;
  std::optional<Prediction> step_s;        ///< median step
  std::optional<Prediction> start_s;       ///< from launch to the beginning of the first step
  std::optional<Prediction> save_s;        ///< the longest of its checkpoints
  std::optional<Prediction> total_s;       ///< from launch to the end of its processes; of whole attempts
  std::optional<Prediction> memory_bytes;  ///< peak of the rank that needed most; of jobs with one attempt
};

struct Accuracy {
  std::optional<Prediction> makespan_s;
  std::vector<AttemptAccuracy> attempts;  ///< by job in the batch's order, then by number
};

/// `profile` is the one that the run was planned by; what it does not hold is not compared.
Accuracy accuracy_of(const journal::RunState& state, const profile::Profile& profile);

/// Median of |error| over those that are there; nothing where none is.
std::optional<double> typical_error(const Accuracy& accuracy,
                                    std::optional<Prediction> AttemptAccuracy::*quantity);

}  // namespace saturn::run
