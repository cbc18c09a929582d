// How a data source becomes samples: the same arithmetic for the controller, which only counts, and for
// training.

#pragma once

#include <cstdint>
#include <vector>

#include "saturn/batch/batch.h"

namespace saturn::batch {

/// `num_tokens` tokens of one file from `first_token` on; samples never span two segments.
/// Sample i of a segment reads the sequence_length + 1 tokens from first_token + i * sequence_length.
struct Segment {
  std::string path;
  std::int64_t first_token = 0;
  std::int64_t num_tokens = 0;
  std::int64_t num_samples = 0;
};

struct Split {
  std::vector<Segment> training;
  std::vector<Segment> validation;
  std::int64_t num_training_samples = 0;
  std::int64_t num_validation_samples = 0;
};

/// Cuts the files of `data`: validation files as they are, else the last `validation_share` of all tokens.
///
/// Errors: a file that is missing or malformed, or that leaves no training sample, or no validation sample
/// although one was asked for.
Result<Split> split_of(const DataSource& data);

/// Steps of one pass over the training samples: the short last batch is kept.
std::int64_t steps_per_epoch(const Job& job, std::int64_t num_training_samples);

/// Optimiser steps of the whole job, at least 1. `tokens` rounds up to whole steps.
std::int64_t steps_of(const Job& job, const DataSource& data, std::int64_t num_training_samples);

}  // namespace saturn::batch
