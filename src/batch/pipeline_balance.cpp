// The exact cut of layers into stages.

#include "saturn/batch/pipeline_balance.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "saturn/base/check.h"
#include "saturn/base/units.h"

namespace saturn::batch {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The smallest maximum over stages of `cost(stage, layers)`, and the cuts that reach it.
Balance best_cuts(int num_layers, int num_stages, const std::function<double(int, LayerRange)>& cost) {
  // best[k][e]: the first k + 1 stages have the layers below e. from[k][e]: where stage k begins there.
  const auto rows = static_cast<std::size_t>(num_stages);
  const auto columns = static_cast<std::size_t>(num_layers) + 1;
  std::vector<std::vector<double>> best(rows, std::vector<double>(columns, kNever));
  std::vector<std::vector<int>> from(rows, std::vector<int>(columns, 0));
  for (int stage = 0; stage < num_stages; ++stage) {
    const auto k = static_cast<std::size_t>(stage);
    for (int end = stage + 1; end <= num_layers; ++end) {
      const auto e = static_cast<std::size_t>(end);
      if (stage == 0) {
        best[k][e] = cost(stage, {0, end});
        continue;
      }
      for (int first = stage; first < end; ++first) {
        const double before = best[k - 1][static_cast<std::size_t>(first)];
        if (before >= best[k][e]) continue;
        const double slowest = std::max(before, cost(stage, {first, end}));
        if (slowest < best[k][e]) {
          best[k][e] = slowest;
          from[k][e] = first;
        }
      }
    }
  }
  Balance found{.slowest_s = best[rows - 1][columns - 1]};
  if (found.slowest_s == kNever) return found;
  int end = num_layers;
  for (int stage = num_stages - 1; stage > 0; --stage) {
    end = from[static_cast<std::size_t>(stage)][static_cast<std::size_t>(end)];
    found.cuts.insert(found.cuts.begin(), end);
  }
  return found;
}

double stage_time_s(const BalanceProblem& problem, int stage, LayerRange range) {
  double seconds = 0.0;
  for (int i = range.first; i < range.end; ++i) seconds += problem.layers[static_cast<std::size_t>(i)].time_s;
  if (stage + 1 < problem.num_stages)
    seconds += problem.layers[static_cast<std::size_t>(range.end) - 1].send_s;
  return seconds;
}

}  // namespace

LayerRange layers_of_stage(const std::vector<int>& cuts, int stage, int num_layers) {
  const auto k = static_cast<std::size_t>(stage);
  return {.first = stage == 0 ? 0 : cuts.at(k - 1), .end = k == cuts.size() ? num_layers : cuts.at(k)};
}

std::int64_t stage_bytes(const BalanceProblem& problem, int stage, LayerRange range) {
  std::int64_t bytes = 0;
  for (int i = range.first; i < range.end; ++i) {
    const LayerCost& layer = problem.layers[static_cast<std::size_t>(i)];
    bytes += layer.state_bytes + problem.most_kept[static_cast<std::size_t>(stage)] * layer.kept_bytes;
  }
  return bytes;
}

Result<Balance> balance(const BalanceProblem& problem) {
  const auto num_layers = static_cast<int>(problem.layers.size());
  SATURN_CHECK(
      problem.num_stages >= 1 && problem.most_kept.size() == static_cast<std::size_t>(problem.num_stages),
      "every stage has its number of micro-batches under way");
  if (problem.num_stages > num_layers) {
    return Diagnostic{.what = std::to_string(problem.num_stages) + " stages are more than the model's " +
                              std::to_string(num_layers) + " layers",
                      .expected = "at least one layer for every stage"};
  }
  Balance found = best_cuts(num_layers, problem.num_stages, [&](int stage, LayerRange range) {
    const bool fits = problem.memory_bytes == 0 || stage_bytes(problem, stage, range) <= problem.memory_bytes;
    return fits ? stage_time_s(problem, stage, range) : kNever;
  });
  if (found.slowest_s < kNever) return found;
  const Balance smallest = best_cuts(num_layers, problem.num_stages, [&](int stage, LayerRange range) {
    return static_cast<double>(stage_bytes(problem, stage, range));
  });
  return Diagnostic{.kind = Kind::infeasible,
                    .what = "no cut into " + std::to_string(problem.num_stages) + " stages fits in " +
                            format_bytes(problem.memory_bytes) + " a stage",
                    .expected = "at least " + format_bytes(static_cast<std::int64_t>(smallest.slowest_s))};
}

}  // namespace saturn::batch
