// The run loop: one thread that launches, watches, recovers and re-plans until every job is in a final state.

#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "run/asker.h"
#include "saturn/journal/control.h"
#include "saturn/plan/plan.h"
#include "saturn/profile/profile.h"
#include "saturn/run/artefacts.h"
#include "saturn/run/control.h"
#include "saturn/run/decide.h"
#include "saturn/run/introspection.h"
#include "saturn/run/progress.h"
#include "saturn/run/session.h"

namespace saturn::run {

/// What is executed.
struct Execution {
  batch::Batch batch;  ///< with the jobs that were added to it
  const devices::Machine* machine = nullptr;
  const profile::Profile* profile = nullptr;
  std::vector<MadeFrom> sources;  ///< of plans made on the way
  std::map<std::string, std::int64_t> num_steps;
  std::set<std::string> selected;
  std::vector<plan::Device> excluded;  ///< by the command line; the journal's drained devices come on top
  plan::Plan plan;                     ///< in force at the start
  const profile::TrialsOf* trials_of = nullptr;  ///< null = as the batch says
};

/// Devices that take no new attempts, by the command line and by `saturn drain`.
std::vector<plan::Device> excluded_from(const Execution& execution, const journal::RunState& state);

/// What is left to plan, by `estimates`; all of it waits.
Remainder remainder_of(const Execution& execution, const profile::Profile& estimates,
                       const journal::RunDirectory& directory);

/// Notes that `plan`, which lies at `path`, is in force from now on.
Result<void> record_plan(const plan::Plan& plan, const std::string& path, const std::string& reason,
                         journal::RunDirectory& directory, journal::RunObserver& observer);

/// Writes `plan` as the next plan.NNN.json and records it.
Result<void> adopt_plan(const plan::Plan& plan, const std::vector<MadeFrom>& sources,
                        const std::string& reason, journal::RunDirectory& directory,
                        journal::RunObserver& observer);

class Executor {
 public:
  Executor(Execution& execution, journal::RunDirectory& directory, journal::ControlBox& box,
           const Surroundings& around)
      : execution_(execution), directory_(directory), box_(box), around_(around) {}

  /// Runs to the end, until a signal or a request asks for it, or until jobs that were added have to be
  /// measured. Nothing it started lives when it returns; after measuring and planning it may be called again.
  ///
  /// Errors: the journal cannot be written. What happened to jobs is in the directory's state.
  Result<void> run();

  bool interrupted() const { return stopping_; }
  /// The end was asked for by `saturn stop`, not by a signal.
  bool stopped_by_request() const { return stopped_by_request_; }
  /// `run` returned because the profile does not hold trials of the jobs that were added.
  bool wants_measuring() const { return measure_ && !stopping_; }
  void measured() { measure_ = false; }
  /// Fails the waiting jobs that no configuration fits; the others are planned without them.
  Result<void> fail_what_fits_nowhere();
  /// Why jobs failed in this session.
  const Diagnostics& failures() const { return failures_; }
  bool has_failed(const std::string& job) const { return failed_.contains(job); }

 private:
  // What a rank said last, by the launcher's clock.
  struct Sign {
    std::optional<double> beat_s;
    std::int64_t step = 0;
    std::string doing;
    bool finished = false;
    bool ended = false;
  };

  // An attempt whose processes live.
  struct Live {
    std::string attempt;  // as the launcher knows it
    std::string job;
    int number = 0;
    int num_living = 0;
    const profile::Trial* trial = nullptr;
    std::vector<plan::Device> devices;
    std::vector<std::string> logs;
    std::vector<Sign> signs;  // of every rank
    std::string doing;        // of the first rank

    std::int64_t step = 0;
    std::int64_t steps_done = 0;  // in this attempt
    std::optional<double> loss;
    double step_time_s = 0.0;
    double longest_step_s = 0.0;
    StepTimes step_times;
    double save_s = 0.0;
    double last_sign_s = 0.0;      // when it last got on, by the launcher's clock
    double last_progress_s = 0.0;  // when its progress was last journaled

    std::optional<worker::Error> error;  // the first that is a cause, not a consequence
    std::optional<worker::Finished> finished;
    std::string death;
    bool killed_from_outside = false;
    std::vector<plan::Device> lost;  // devices that do not answer any more
    bool host_memory_died = false;
    std::string hang;
    std::int64_t memory_peak_bytes = 0;
    std::int64_t host_memory_peak_bytes = 0;
    double kill_at_s = std::numeric_limits<double>::infinity();
    bool killed = false;
  };

  // What an attempt is asked to stop for.
  enum class StopFor { request, move, search };

  // A problem that the planner works on.
  struct Planning {
    plan::PlanProblem problem;
    std::string reason;
    std::optional<plan::Plan> kept;        // the plan in force, carried on
    std::optional<plan::Plan> rearranged;  // the first look's plan; the second look is at moves
  };

  // executor.cpp: the loop
  Result<void> loop();
  std::vector<worker::WorkerEvent> wait(const Moves& moves);
  Result<void> make_moves(const Moves& moves);
  void end_everything();
  Result<void> resolve_stall(const Moves& moves);
  Result<void> fail_job(const std::string& job, const std::string& reason);
  Result<void> append(journal::Event event);
  const journal::JobRecord& record_of(const Live& live) const;
  const batch::Job& job_of(const std::string& name) const;
  Remainder remainder();

  // executor_introspect.cpp: planning beside the run, and what comes of it
  void look_at_estimates();
  Result<void> re_plan();
  Result<void> take_plan();
  Result<void> look_at_moves(Planning planning);
  Result<void> decide(const Planning& planning, const std::optional<plan::Plan>& moved);
  Result<void> record(const Planning& planning, const Judgement& judgement,
                      const std::optional<plan::Plan>& moved);
  Result<void> move(const plan::PlanProblem& problem, const Judgement& judgement);
  Result<void> begin_solving(Planning planning);
  plan::SolveOptions options_for(const Planning& planning) const;
  std::vector<Spread> spreads(const plan::PlanProblem& problem) const;
  std::map<std::string, journal::StepPace> paces() const;
  bool searches() const { return !execution_.batch.search.method.empty(); }
  // A search frees devices all the time: what runs may move to them, as under introspection.
  bool introspects() const { return execution_.batch.run.introspect_every_s > 0.0 || searches(); }

  // executor_heed.cpp: what is asked from outside
  Result<void> heed_signals();
  Result<void> heed_requests();
  Result<Answer> answer(const journal::Request& request);
  Result<Answer> pause(Live& live);
  Result<Answer> resume(const Live& live);
  Result<Answer> cancel(Live& live);
  Result<Answer> drain(const plan::Device& device, const journal::Request& request);
  Result<Answer> add(const std::string& path);
  Result<void> stop_everything(const std::string& reason);
  Result<void> stop_job(Live& live, journal::JobState next, const std::string& reason,
                        StopFor what = StopFor::request);
  Result<void> drain_device(const plan::Device& device, const std::string& reason);
  void kill_the_late();
  Live* living(const std::string& job);

  // executor_search.cpp: early stopping
  Result<void> reach_rung(const Live& live, const worker::Metric& metric);
  Result<void> search();
  Result<void> obey_search(Live& live);

  // executor_ask.cpp: the program that proposes jobs
  bool asks() const { return execution_.batch.search.method == "ask" && !given_up_asking_; }
  bool is_asking() const;
  Result<void> consult();
  Result<void> begin_asking();
  std::optional<Question> next_question() const;
  Result<void> heed_reply(const Reply& reply);
  Result<void> accept_proposal(std::int64_t number, const Json& parameters);
  Result<void> give_up_asking(Diagnostics faults);

  // executor_launch.cpp: from an assignment to living ranks
  Result<void> start(const plan::Assignment& assignment);
  Result<std::vector<worker::Assign>> ranks_of(const plan::Assignment& assignment,
                                               const journal::JobRecord& record) const;

  // executor_watch.cpp: what ranks say, and what becomes of an attempt
  Result<void> handle(const worker::WorkerEvent& event);
  Result<void> handle_message(Live& live, int rank, const worker::FromRank& message);
  Result<void> handle_step(Live& live, const worker::Step& step);
  Result<void> handle_beat(Live& live, const worker::Heartbeat& beat);
  void handle_death(Live& live, int rank, const worker::Ended& ended);
  Result<void> handle_error(Live& live, int rank, const worker::Error& error);
  void look_for_hangs();
  void keep_logs_short();
  std::string stuck_rank(const Live& live, double now_s) const;
  Result<void> conclude_the_dead();
  Result<void> conclude(const Live& live);
  AttemptEnd end_of(const Live& live) const;
  Result<void> strike(const Live& live, const std::string& reason);
  Diagnostic failure_of(const Live& live, const std::string& error_class, const std::string& message) const;

  Execution& execution_;
  journal::RunDirectory& directory_;
  journal::ControlBox& box_;
  const Surroundings& around_;
  std::vector<std::unique_ptr<Live>> live_;
  Diagnostics failures_;
  std::set<std::string> failed_;

  bool stopping_ = false;
  bool stopped_at_once_ = false;
  bool stopped_by_request_ = false;
  int num_stop_requests_ = 0;
  bool measure_ = false;
  bool told_of_waiting_ = false;
  double requests_seen_s_ = -std::numeric_limits<double>::infinity();
  double logs_seen_s_ = -std::numeric_limits<double>::infinity();
  double looked_for_hangs_s_ = std::numeric_limits<double>::infinity();
  std::string re_plan_reason_;  // empty = the plan in force will do
  std::string look_reason_;     // empty = nothing has happened that a better plan could use
  std::optional<Planning> planning_;
  bool stall_planned_ = false;
  std::int64_t searched_seq_ = -1;  // the journal's end when the search was last asked what follows
  std::unique_ptr<Asker> asker_;    // once it was spoken to
  bool given_up_asking_ = false;
  bool proposed_all_ = false;       // the program has no more
  bool measure_proposals_ = false;  // of a speed class that the profile does not know
  std::set<std::string> told_;      // proposed jobs whose end the program knows
  std::deque<Question> reports_;    // to be sent
  std::set<std::pair<std::string, std::int64_t>> reported_;  // jobs and rungs, sent or to be sent
  profile::Profile estimates_;                               // the profile as this run has corrected it
  std::map<std::string, double> looked_at_step_s_;  // step time of each attempt when it was last looked at
  double looked_s_ = -std::numeric_limits<double>::infinity();
  double expected_end_s_ = 0.0;  // run time at which the plan in force ends, when it was last looked at
};

}  // namespace saturn::run
