// Linear and mixed-integer programs for CLP and CBC. Only coin.cpp includes their headers; their statuses,
// tolerances and output end there.

#pragma once

#include <functional>
#include <limits>
#include <vector>

namespace saturn::plan {

inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();

/// min cost x, row_lower <= A x <= row_upper, lower <= x <= upper; A by columns.
struct LinearProgram {
  struct Entry {
    int row;
    double value;
  };
  struct Column {
    double lower = 0.0;
    double upper = kUnbounded;
    double cost = 0.0;
    bool integer = false;
    std::vector<Entry> entries;
  };
  struct Row {
    double lower = -kUnbounded;
    double upper = kUnbounded;
  };
  std::vector<Column> columns;
  std::vector<Row> rows;

  int add_row(double lower, double upper) {
    rows.push_back({lower, upper});
    return static_cast<int>(rows.size()) - 1;
  }
  int add_column(double cost, double lower = 0.0, double upper = kUnbounded) {
    columns.push_back({lower, upper, cost, false, {}});
    return static_cast<int>(columns.size()) - 1;
  }
  void put(int row, int column, double value) { columns[column].entries.push_back({row, value}); }
};

struct LpResult {
  bool optimal = false;
  bool infeasible = false;  ///< proved
  double objective = 0.0;
  std::vector<double> x;
  std::vector<double> dual;  ///< per row; of a minimisation, so >= 0 for a binding lower side
};

/// `columns_added` is asked after each solve for more columns to price in; the solve goes on from the basis
/// while it returns true.
LpResult solve_lp(LinearProgram& program,
                  const std::function<bool(const LpResult&, LinearProgram&)>& columns_added = nullptr);

struct MilpOptions {
  double time_limit_s = 10.0;  ///< wall seconds, kept loosely: run it in a child that can be killed
  int node_limit = -1;
  double cutoff = kUnbounded;  ///< only solutions better than this are wanted
  int solution_limit = -1;
};

struct MilpResult {
  bool found = false;     ///< `x` holds a solution
  bool complete = false;  ///< the search ended by itself: optimal, or proved that nothing beats the cutoff
  double bound = -kUnbounded;  ///< proved: no solution is below (the cutoff where nothing beats it)
  double objective = kUnbounded;
  std::vector<double> x;
};

MilpResult solve_milp(const LinearProgram& program, const MilpOptions& options);

}  // namespace saturn::plan
