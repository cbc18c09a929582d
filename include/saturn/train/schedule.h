// The learning rate of every step: a pure function, so that a restart or a move changes nothing.

#pragma once

#include <cstdint>

namespace saturn::batch {
struct Optimizer;
struct Schedule;
}  // namespace saturn::batch

namespace saturn::train {

/// Learning rate of `step` (counted from 0) of `num_steps`: during warm-up (step + 1) / warmup_steps of lr,
/// then constant, linear or cosine down to minimum_lr (reached after the last step), or `decay_factor` once
/// every `decay_every` steps. Steps beyond `num_steps` (of a trial) keep the last value.
double learning_rate(const batch::Optimizer& optimizer, const batch::Schedule& schedule, std::int64_t step,
                     std::int64_t num_steps);

}  // namespace saturn::train
