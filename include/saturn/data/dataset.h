// The samples of one data source, read by index.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::batch {
struct DataSource;
}

namespace saturn::data {

enum class Part { training, validation };

/// Rows in the order asked for.
struct Samples {
  at::Tensor inputs;
  at::Tensor targets;
};

/// What decides how a training sample is changed on its way: crops, flips.
struct Draw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

/// Safe to read from several threads.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t num_samples(Part part) const = 0;
  virtual std::int64_t targets_per_sample() const = 0;  ///< what the loss of one sample is summed over
  virtual std::int64_t tokens_per_sample() const = 0;   ///< 0 where samples have no tokens

  /// Errors: Kind::input where a file has changed since it was opened, or holds what it must not.
  /// A pure function of the files, the arguments and, for training samples, `draw`.
  virtual Result<Samples> read(Part part, const std::vector<std::int64_t>& samples,
                               const Draw& draw = {}) const = 0;

  /// Mean loss per target of the validation samples under the best model that ignores the input, fitted to
  /// the training samples with one added to every count; a large training set is sampled.
  virtual Result<double> baseline_loss() const = 0;

  /// Samples that could not be read so far, and were replaced by the ones after them.
  virtual std::int64_t num_corrupt() const { return 0; }
};

/// Opens the files of `source` and cuts them as batch::split_of says. `vocabulary` bounds every token read;
/// images are decoded by `num_threads` threads.
///
/// Errors: Kind::input, for every file that cannot be used.
Result<std::unique_ptr<Dataset>> open_dataset(const batch::DataSource& source, std::int64_t vocabulary,
                                              int num_threads = 1);

}  // namespace saturn::data
