// A named tensor that training changes, and where its first values come from.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::train {

/// How a parameter begins where no weights are loaded.
struct Initial {
  enum class Kind { zeros, ones, normal, uniform };
  Kind kind = Kind::zeros;
  double standard_deviation = 0.0;  ///< of `normal`, whose mean is 0
  double bound = 0.0;               ///< of `uniform`: from -bound to bound
};

/// How a parameter is cut over the ranks of a tensor group (train/tensor_group.h).
struct Split {
  int dimension = -1;  ///< the one that is cut; -1: every rank holds the whole parameter
  int num_blocks = 1;  ///< equal blocks side by side along it, each cut on its own (3: queries, keys, values)
};

struct Parameter;
using ParameterPtr = std::shared_ptr<Parameter>;

/// A low-rank map beside a linear one: x is mapped by `a` [rank, inputs], then by `b` [outputs, rank], and
/// counts `scale` times. Both are parameters of the layer that has the linear map.
struct Adapter {
  ParameterPtr a;
  ParameterPtr b;
  double scale = 1.0;
};

/// One trainable tensor. A model only declares it; a technique places it (allocates `value`, whole or as a
/// view of something larger, with requires_grad set where it trains) before the first forward.
///
/// Tied weights are one Parameter that two layers point to.
struct Parameter {
  std::string name;                 ///< Hugging Face's name, unique within the model
  std::vector<std::int64_t> shape;  ///< as in Hugging Face's file, so that any range of elements can be read
  Initial initial;
  bool decays = true;  ///< weight decay applies
  int num_users = 0;  ///< layers of this rank that use it, 2 where tied; a stage of a pipeline counts its own
  Split split = {};
  int outputs = -1;    ///< of a linear map's weight, the dimension of its outputs: it can have an adapter
  bool trains = true;  ///< false: no gradient, no optimiser state, no update
  bool of_adapter = false;              ///< one of the maps of an adapter
  std::optional<Adapter> adapter = {};  ///< ops::linear_map adds what it gives
  at::Tensor value;                     ///< in the precision of computing; undefined until placed

  std::int64_t num_elements() const {
    std::int64_t count = 1;
    for (std::int64_t extent : shape) count *= extent;
    return count;
  }
};

/// First values of parameters: random numbers, a Hugging Face directory, a checkpoint.
///
/// Any range of elements can be asked for, so that a rank that holds a part reads a part.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// Fills `out` (one-dimensional, contiguous, fp32, on the CPU) with the elements of `parameter`, counted
  /// row-major, from `first_element` on.
  virtual Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) = 0;
};

/// Values from `Parameter::initial`, a pure function of (seed, name, element): the same whatever the
/// technique.
class RandomWeights final : public WeightSource {
 public:
  explicit RandomWeights(std::uint64_t seed) : seed_(seed) {}
  Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) override;

 private:
  std::uint64_t seed_;
};

}  // namespace saturn::train
