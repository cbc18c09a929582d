// Warm-up, then constant, linear, cosine or step decay.

#include "saturn/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"

namespace saturn::train {

double learning_rate(const batch::Optimizer& optimizer, const batch::Schedule& schedule, std::int64_t step,
                     std::int64_t num_steps) {
  const std::int64_t warmup = schedule.warmup_steps;
  if (step < warmup) return optimizer.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);

  const std::int64_t length = std::max<std::int64_t>(1, num_steps - warmup);
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(length));
  const double span = optimizer.lr - schedule.minimum_lr;
  if (schedule.kind == "constant") return optimizer.lr;
  if (schedule.kind == "linear") return schedule.minimum_lr + span * (1.0 - progress);
  if (schedule.kind == "cosine")
    return schedule.minimum_lr + span * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  SATURN_CHECK(schedule.kind == "step" && schedule.decay_every > 0, "the batch reader knows every schedule");
  const auto decays = static_cast<double>((step - warmup) / schedule.decay_every);
  return std::max(schedule.minimum_lr, optimizer.lr * std::pow(schedule.decay_factor, decays));
}

}  // namespace saturn::train
