// CLP and CBC through their C interfaces. The only file that knows them.
//
// Kept inside: infinities are DBL_MAX, CBC prints unless told otherwise, its limit counts CPU time unless
// told otherwise and is overrun inside presolve, a "best possible" bound of a run that was cut off is only as
// good as the cutoff it was given, a status must be read before any solution, and a Ctrl-C while they solve
// is theirs: it ends their run and is never heard of again. Worst: when the time runs out before the first
// node CBC may say that it proved there is nothing, so what took long is not believed.

#include "plan/coin.h"

#include <Cbc_C_Interface.h>
#include <Clp_C_Interface.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <memory>
#include <string>

namespace saturn::plan {
namespace {

double as_coin(double value) {
  if (value == kUnbounded) return DBL_MAX;
  if (value == -kUnbounded) return -DBL_MAX;
  return value;
}

// A program in the compressed form that both libraries load.
struct Packed {
  std::vector<int> starts;
  std::vector<int> rows;
  std::vector<double> values;
  std::vector<double> lower;
  std::vector<double> upper;
  std::vector<double> cost;
  std::vector<double> row_lower;
  std::vector<double> row_upper;
};

Packed pack(const LinearProgram& program) {
  Packed packed;
  for (const LinearProgram::Column& column : program.columns) {
    packed.starts.push_back(static_cast<int>(packed.rows.size()));
    for (const LinearProgram::Entry& entry : column.entries) {
      packed.rows.push_back(entry.row);
      packed.values.push_back(entry.value);
    }
    packed.lower.push_back(as_coin(column.lower));
    packed.upper.push_back(as_coin(column.upper));
    packed.cost.push_back(column.cost);
  }
  packed.starts.push_back(static_cast<int>(packed.rows.size()));
  for (const LinearProgram::Row& row : program.rows) {
    packed.row_lower.push_back(as_coin(row.lower));
    packed.row_upper.push_back(as_coin(row.upper));
  }
  return packed;
}

struct DeleteClp {
  void operator()(Clp_Simplex* model) const { Clp_deleteModel(model); }
};
struct DeleteCbc {
  void operator()(Cbc_Model* model) const { Cbc_deleteModel(model); }
};

// While one exists a Ctrl-C waits: both libraries put a handler of their own in place of the caller's.
class InterruptsWait {
 public:
  InterruptsWait() {
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupt, &before_);
  }
  ~InterruptsWait() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  InterruptsWait(const InterruptsWait&) = delete;
  InterruptsWait& operator=(const InterruptsWait&) = delete;

 private:
  sigset_t before_;
};

// The clock that CBC measures its limit by.
double cbc_clock_s() {
  timeval now{};
  ::gettimeofday(&now, nullptr);
  return static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_usec);
}

// A claim is believed when it came well before CBC could have run out of time.
constexpr double kBelievedShare = 0.5;

}  // namespace

LpResult solve_lp(LinearProgram& program,
                  const std::function<bool(const LpResult&, LinearProgram&)>& columns_added) {
  const std::unique_ptr<Clp_Simplex, DeleteClp> model(Clp_newModel());
  Clp_setLogLevel(model.get(), 0);
  const Packed packed = pack(program);
  Clp_loadProblem(model.get(), static_cast<int>(program.columns.size()),
                  static_cast<int>(program.rows.size()), packed.starts.data(), packed.rows.data(),
                  packed.values.data(), packed.lower.data(), packed.upper.data(), packed.cost.data(),
                  packed.row_lower.data(), packed.row_upper.data());
  LpResult result;
  bool first = true;
  for (;;) {
    {
      const InterruptsWait until_solved;
      if (first) {
        Clp_initialSolve(model.get());
      } else {
        Clp_primal(model.get(), 0);
      }
    }
    first = false;
    result.optimal = Clp_isProvenOptimal(model.get()) != 0;
    result.infeasible = Clp_isProvenPrimalInfeasible(model.get()) != 0;
    if (!result.optimal) return result;
    const std::size_t num_columns = program.columns.size();
    const double* x = Clp_primalColumnSolution(model.get());
    const double* dual = Clp_dualRowSolution(model.get());
    result.objective = Clp_objectiveValue(model.get());
    result.x.assign(x, x + num_columns);
    result.dual.assign(dual, dual + program.rows.size());
    if (!columns_added || !columns_added(result, program)) return result;
    for (std::size_t c = num_columns; c < program.columns.size(); ++c) {
      const LinearProgram::Column& column = program.columns[c];
      std::vector<int> rows;
      std::vector<double> values;
      for (const LinearProgram::Entry& entry : column.entries) {
        rows.push_back(entry.row);
        values.push_back(entry.value);
      }
      const int starts[2] = {0, static_cast<int>(rows.size())};
      const double lower = as_coin(column.lower);
      const double upper = as_coin(column.upper);
      Clp_addColumns(model.get(), 1, &lower, &upper, &column.cost, starts, rows.data(), values.data());
    }
  }
}

MilpResult solve_milp(const LinearProgram& program, const MilpOptions& options) {
  const std::unique_ptr<Cbc_Model, DeleteCbc> model(Cbc_newModel());
  Cbc_setLogLevel(model.get(), 0);
  const Packed packed = pack(program);
  Cbc_loadProblem(model.get(), static_cast<int>(program.columns.size()),
                  static_cast<int>(program.rows.size()), packed.starts.data(), packed.rows.data(),
                  packed.values.data(), packed.lower.data(), packed.upper.data(), packed.cost.data(),
                  packed.row_lower.data(), packed.row_upper.data());
  for (std::size_t c = 0; c < program.columns.size(); ++c) {
    if (program.columns[c].integer) Cbc_setInteger(model.get(), static_cast<int>(c));
  }
  Cbc_setObjSense(model.get(), 1.0);
  Cbc_setParameter(model.get(), "timeMode", "elapsed");
  Cbc_setParameter(model.get(), "seconds", std::to_string(std::max(0.01, options.time_limit_s)).c_str());
  if (options.node_limit >= 0) {
    Cbc_setParameter(model.get(), "maxNodes", std::to_string(options.node_limit).c_str());
  }
  if (options.solution_limit > 0) {
    Cbc_setParameter(model.get(), "maxSolutions", std::to_string(options.solution_limit).c_str());
  }
  if (options.cutoff < kUnbounded) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", options.cutoff);
    Cbc_setParameter(model.get(), "cutoff", text);
  }
  Cbc_setParameter(model.get(), "ratioGap", "0");
  Cbc_setParameter(model.get(), "allowableGap", "0");
  Cbc_setParameter(model.get(), "threads", "0");
  const double begin_s = cbc_clock_s();
  {
    const InterruptsWait until_solved;
    Cbc_solve(model.get());
  }
  const double took_s = cbc_clock_s() - begin_s;
  const bool in_time = took_s >= 0.0 && took_s < kBelievedShare * options.time_limit_s;

  MilpResult result;
  const int status = Cbc_status(model.get());
  const int secondary = Cbc_secondaryStatus(model.get());
  // Abandoned for numerical trouble, or never started: nothing it says counts.
  if (status != 0 && status != 1 && status != 5) return result;
  result.found = Cbc_numberSavedSolutions(model.get()) > 0;
  if (result.found) {
    const double* x = Cbc_getColSolution(model.get());
    result.x.assign(x, x + program.columns.size());
    result.objective = Cbc_getObjValue(model.get());
    result.found = result.objective < options.cutoff + std::abs(options.cutoff) * 1e-9;
  }
  if (!in_time && (status == 0 || Cbc_getNodeCount(model.get()) == 0)) return result;
  if (status == 0 && (secondary == 0 || secondary == 1)) {
    const bool optimal = Cbc_isProvenOptimal(model.get()) != 0;
    const bool nothing = Cbc_isProvenInfeasible(model.get()) != 0;
    result.complete = optimal || nothing;
    if (result.complete) result.bound = result.found ? result.objective : options.cutoff;
    return result;
  }
  const double possible = Cbc_getBestPossibleObjValue(model.get());
  if (std::isfinite(possible) && std::abs(possible) < 1e40) result.bound = std::min(possible, options.cutoff);
  return result;
}

}  // namespace saturn::plan
