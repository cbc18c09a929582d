// summary.json: what a run came to, and how good its predictions were.

#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/journal/run_state.h"

namespace saturn::journal {

inline constexpr const char* kSummaryFormat = "saturn.summary/1";

struct JobSummary {
  std::string name;
  JobState state = JobState::pending;
  std::string reason;  ///< why it failed or was stopped; empty otherwise
  std::int64_t steps = 0;
  std::int64_t num_steps = 0;
  int attempts = 0;
  std::vector<std::string> techniques;  ///< "ddp x2", in the order they were used
  std::vector<plan::Device> devices;    ///< of the last attempt
  double time_s = 0.0;
  std::optional<double> predicted_time_s;  ///< of its last attempt, where that ran to its end
  std::optional<double> last_attempt_s;    ///< measured, to compare with the prediction
  std::optional<double> train_loss;
  std::map<std::string, double> validation;  ///< "loss", "unigram_loss", "accuracy", ...
  int num_skipped_steps = 0;                 ///< a number was not finite
  int num_failed_saves = 0;                  ///< checkpoints that could not be written
  std::vector<RungRecord> rungs;             ///< what a search found of it; seq is not carried
  std::string model_dir;                     ///< relative to the run directory; empty without weights

  /// What went wrong and was lived with: "2 steps skipped, 1 checkpoint not saved"; empty where nothing did.
  std::string trouble() const;
};

/// A decision of introspection that changed the plan, and what came of it.
struct IntrospectionSummary {
  double time_s = 0.0;
  std::string decision;  ///< rearrange, move
  std::string trigger;
  std::string reason;
  std::vector<std::string> moved;          ///< jobs
  double cost_s = 0.0;                     ///< of the moves, predicted
  std::optional<double> predicted_gain_s;  ///< against the plan in force going on; nothing where it could not
  std::optional<double> realised_gain_s;   ///< the same with the end as it was; once every job is done
};

struct Summary {
  std::string batch;
  std::string outcome;  ///< done, failed, interrupted, running
  double makespan_s = 0.0;
  std::optional<double> predicted_makespan_s;
  double lower_bound_s = 0.0;
  int num_plans = 0;
  std::optional<std::string> best_job;  ///< least validation loss (else train loss) of those done
  std::vector<JobSummary> jobs;
  int num_looks = 0;  ///< introspections, also those that changed nothing
  std::vector<IntrospectionSummary> introspections;

  /// predicted / measured - 1; nothing while unknown.
  std::optional<double> prediction_error() const;
};

/// The makespan is counted from the plan in force when the run (last) started; see Summary.
Summary summarise(const RunState& state);

Json to_json(const Summary& summary);
/// Errors: Kind::input with pointers into `path`.
Result<Summary> summary_from_json(const Json& document, const std::string& path);

}  // namespace saturn::journal
