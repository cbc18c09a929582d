// A schedule as something to look at: lanes of devices, bars of jobs, a time axis. Text, SVG and HTML are all
// drawn from this, whether it was planned or measured.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "saturn/journal/run_state.h"
#include "saturn/plan/plan.h"

namespace saturn::view {

/// One device.
struct Lane {
  std::string node;
  int device = 0;  ///< index within the node
};

/// One stay of a job on devices: a segment of a plan, or an attempt of a run.
struct Bar {
  std::size_t job = 0;  ///< index into `Schedule::jobs`
  int segment = 0;
  std::string technique;
  int num_ranks = 0;               ///< 0 where it is not known
  std::vector<std::size_t> lanes;  ///< indices into `Schedule::lanes`, ascending
  double start_s = 0.0;            ///< from the schedule's zero
  double duration_s = 0.0;
  std::optional<std::int64_t> from_step;
  std::optional<std::int64_t> to_step;
  std::string outcome;  ///< of an attempt: "running", "failed", ...; empty for a plan
};

/// What a planner proved about a schedule, beside what other policies would have taken.
struct Certificate {
  double makespan_s = 0.0;
  double lower_bound_s = 0.0;
  double gap = 0.0;  ///< (makespan - bound) / bound
  std::string status;
  std::string objective;  ///< with its value and bound; empty where it is the makespan
  std::string found_by;   ///< stage of the solver, empty where it is not known
  std::string bound_by;
  std::string solver;  ///< policy, seed, iterations and time, as one phrase
  std::vector<std::pair<std::string, double>> baselines;  ///< policy and its makespan in seconds
};

struct Schedule {
  std::string title;
  std::vector<Lane> lanes;        ///< grouped by node
  std::vector<std::string> jobs;  ///< in the batch's order
  std::vector<Bar> bars;
  std::string zero;  ///< what time 0 is where it is not the start of the run
  std::optional<Certificate> certificate;
};

/// What `plan` intends. `nodes` adds devices that it leaves idle; without them only devices up to the last
/// one that is used are known.
Schedule schedule_of(const plan::Plan& plan, const std::vector<plan::Node>& nodes = {});

/// What a run did so far: a bar per attempt, open ones up to `now_s`, in seconds of run time.
Schedule schedule_of(const journal::RunState& state, double now_s);

/// Gives both schedules the same lanes and jobs, so that they can be drawn under each other.
void align(Schedule& left, Schedule& right);

/// The end of the last bar; 0 without bars.
double end_s(const Schedule& schedule);

/// Indices of bars in the order to read them: by start, then by first lane.
std::vector<std::size_t> reading_order(const Schedule& schedule);

/// A short key for each job, by first start: a, b, ... Z for up to 52 jobs, else 1, 2, ...
std::vector<std::string> job_keys(const Schedule& schedule);

/// "0-3,6" for a bar on one node; "n0:0-3 n1:0-3" where several nodes are named, or `with_node`.
std::string lanes_text(const Schedule& schedule, const std::vector<std::size_t>& lanes, bool with_node);

/// True where all lanes are of one node.
bool single_node(const Schedule& schedule);

/// "ddp x2", with the number of ranks where it differs: "single x2 (1 rank)".
std::string configuration_text(const Bar& bar);

}  // namespace saturn::view
