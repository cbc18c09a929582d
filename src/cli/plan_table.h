// `saturn plan --table`: what it reads from the command line, solves, prints and writes. Also the options
// that every form of `saturn plan` shares.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/command.h"
#include "saturn/plan/solve.h"

namespace saturn::cli {

/// The options of the solver on a command line.
struct SolverArgs {
  std::optional<double> time_limit_s;
  std::optional<std::int64_t> iterations;
  std::optional<std::int64_t> seed;
  std::optional<double> gap;
  std::optional<std::int64_t> segments;
  std::string policy;
  std::string objective;
  std::string explain;

  void declare(Options& options);

  /// `options` with what the command line says. Errors: Kind::input for values out of range, and unknown
  /// policies and objectives.
  Result<plan::SolveOptions> solve_options(plan::SolveOptions options = {}) const;
  Result<void> apply_objective(plan::PlanProblem& problem) const;
};

/// While one exists, the first Ctrl-C or SIGTERM asks the solver for its best plan so far.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  const std::atomic<bool>* flag() const;
};

/// Solves a bare table and prints the certificate (or plan.json with --json); writes `out` where it is given.
Result<int> plan_table(const std::string& table, const std::string& out, const SolverArgs& args,
                       const Context& context);

}  // namespace saturn::cli
