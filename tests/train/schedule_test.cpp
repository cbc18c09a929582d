// Learning rates at the points that define each schedule.

#include "saturn/train/schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"

namespace saturn::train {
namespace {

/// The fields of a batch::Schedule, of lr 1.
struct Shape {
  const char* kind;
  int warmup_steps = 0;
  double minimum = 0.0;
  int decay_every = 0;
};

double rate(const Shape& shape, double lr, std::int64_t step) {
  batch::Schedule schedule;
  schedule.kind = shape.kind;
  schedule.warmup_steps = shape.warmup_steps;
  schedule.minimum_lr = lr * shape.minimum;
  schedule.decay_every = shape.decay_every;
  batch::Optimizer optimizer;
  optimizer.lr = lr;
  return learning_rate(optimizer, schedule, step, /*num_steps=*/100);
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/schedule: every schedule has its published value at every step") {
    struct Row {
      std::string label;
      Shape shape;
      std::vector<std::pair<std::int64_t, double>> want;  // of 100 steps
    };
    const double half_root = std::sqrt(0.5);
    const std::vector<Row> rows = {
        {"constant", {"constant"}, {{0, 1.0}, {50, 1.0}, {99, 1.0}}},
        {"warm-up", {"constant", 10}, {{0, 0.1}, {4, 0.5}, {9, 1.0}, {10, 1.0}}},
        {"linear", {"linear"}, {{0, 1.0}, {50, 0.5}, {99, 0.01}, {100, 0.0}, {500, 0.0}}},
        {"linear to a minimum", {"linear", 20, 0.2}, {{19, 1.0}, {20, 1.0}, {60, 0.6}, {100, 0.2}}},
        {"cosine",
         {"cosine"},
         {{0, 1.0}, {25, 0.5 + 0.5 * half_root}, {50, 0.5}, {75, 0.5 - 0.5 * half_root}, {100, 0.0}}},
        {"cosine to a minimum",
         {"cosine", 10, 0.1},
         {{9, 1.0}, {10, 1.0}, {55, 0.55}, {100, 0.1}, {1000, 0.1}}},
        {"step",
         {"step", 5, 0.02, 30},
         {{4, 1.0}, {5, 1.0}, {34, 1.0}, {35, 0.1}, {64, 0.1}, {65, 0.02}, {95, 0.02}}},
        {"warm-up longer than the job", {"cosine", 200}, {{0, 0.005}, {99, 0.5}, {199, 1.0}}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      for (const auto& [step, want] : row.want) {
        CAPTURE(step);
        CHECK(rate(row.shape, 1.0, step) == doctest::Approx(want));
        CHECK(rate(row.shape, 3e-4, step) == doctest::Approx(3e-4 * want));
      }
    }
  }
}

}  // namespace saturn::train
