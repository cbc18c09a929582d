// Accepting a batch that has no file, a first plan, and the loop.

#include "saturn/run/rehearse.h"

#include "run/append.h"
#include "run/executor.h"
#include "saturn/plan/check.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;

Result<void> accept(const Rehearsal& rehearsal, journal::RunDirectory& directory,
                    journal::RunObserver& observer) {
  Json jobs = Json::array();
  for (const batch::Job& job : rehearsal.batch.jobs)
    jobs.push_back(
        {{"name", job.name}, {"result_digest", ""}, {"num_steps", rehearsal.num_steps.at(job.name)}});
  Event accepted{.kind = EventKind::batch_accepted};
  accepted.details = {{"file", ""},
                      {"path", rehearsal.batch.path},
                      {"digest", ""},
                      {"name", rehearsal.batch.name},
                      {"jobs", std::move(jobs)}};
  return append(std::move(accepted), directory, observer);
}

}  // namespace

Result<plan::PlanProblem> whole_problem(const Rehearsal& rehearsal) {
  return remaining_problem({.batch = &rehearsal.batch,
                            .profile = &rehearsal.profile,
                            .num_steps = &rehearsal.num_steps,
                            .trials_of = &rehearsal.trials_of});
}

Result<Rehearsed> rehearse(const Rehearsal& rehearsal, journal::RunDirectory& directory,
                           const Surroundings& around) {
  SATURN_TRY_VOID(directory.begin());
  SATURN_TRY_VOID(accept(rehearsal, directory, *around.observer));
  Execution execution{.batch = rehearsal.batch,
                      .machine = &rehearsal.machine,
                      .profile = &rehearsal.profile,
                      .num_steps = rehearsal.num_steps,
                      .trials_of = &rehearsal.trials_of};
  for (const batch::Job& job : rehearsal.batch.jobs) execution.selected.insert(job.name);

  if (rehearsal.first_plan != nullptr) {
    execution.plan = *rehearsal.first_plan;
  } else {
    SATURN_TRY(const plan::PlanProblem problem, whole_problem(rehearsal));
    SATURN_TRY_VOID(around.planner->start(problem, solve_options(execution.batch)));
    std::optional<Result<plan::Plan>> planned = around.planner->take();
    SATURN_CHECK(planned.has_value(), "a rehearsal's planner answers at once");
    SATURN_TRY(execution.plan, *std::move(planned));
  }
  directory.start_clock();
  SATURN_TRY_VOID(adopt_plan(execution.plan, {}, "the first", directory, *around.observer));

  Rehearsed rehearsed{.first_plan = execution.plan};
  journal::ControlBox box(directory.paths());
  Executor executor(execution, directory, box, around);
  SATURN_TRY_VOID(executor.run());
  rehearsed.state = directory.state();
  return rehearsed;
}

}  // namespace saturn::run
