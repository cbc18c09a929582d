// Solving beside the run: the loop asks for a plan, goes on, and picks it up when it is there.

#pragma once

#include <memory>
#include <optional>

#include "saturn/base/result.h"
#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/plan/solve.h"

namespace saturn::run {

/// One problem at a time.
class Planner {
 public:
  virtual ~Planner() = default;

  /// `options.stop` and `on_progress` are not carried; `start_from` is not looked at after the call.
  virtual Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& options) = 0;
  virtual bool busy() const = 0;
  /// Readable when `take` may have something; -1 where there is nothing to wait on.
  virtual int fd() const = 0;
  /// The plan or its faults, once; nothing while it is not there. Never waits.
  virtual std::optional<Result<plan::Plan>> take() = 0;
  virtual void cancel() = 0;
};

/// Solves in a forked child at low priority, which a crash or a memory-hungry search cannot hurt the run
/// through.
std::unique_ptr<Planner> make_child_planner();

/// Solves inside `start`: for tests and simulation.
std::unique_ptr<Planner> make_inline_planner();

}  // namespace saturn::run
