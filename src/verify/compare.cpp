// Tensors are read in slabs of rows, whatever boxes they were written in.

#include "saturn/verify/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "saturn/base/nearest.h"
#include "saturn/checkpoint/stored.h"

namespace saturn::verify {
namespace {

using checkpoint::Extents;
using checkpoint::Stored;
using checkpoint::Tensor;

constexpr std::int64_t kSlabElements = std::int64_t{1} << 20;
// Of a second moment against the mean of its tensor's. Lion has none, and steps as far along noise as along a
// gradient: the square of its first moment stands in.
constexpr double kNoGradient = 1e-8;

using Values = std::vector<float>;

/// Product of the extents behind the first `from`.
std::int64_t tail_elements(const Extents& shape, std::size_t from) {
  std::int64_t count = 1;
  for (std::size_t i = from; i < shape.size(); ++i) count *= shape[i];
  return count;
}

/// Sums of squares of one tensor: of what differs and of what it is measured by.
struct Sums {
  double difference = 0.0;
  double reference = 0.0;

  double ratio() const {
    if (!std::isfinite(difference) || !std::isfinite(reference))
      return std::numeric_limits<double>::infinity();
    if (difference == 0.0) return 0.0;
    return reference > 0.0 ? std::sqrt(difference / reference) : std::numeric_limits<double>::infinity();
  }
};

class Comparison {
 public:
  Comparison(Stored before, Stored after, Stored other)
      : before_(std::move(before)), after_(std::move(after)), other_(std::move(other)) {}

  Result<Differences> run() {
    Differences largest;
    for (const Tensor& tensor : after_.manifest().tensors) {
      if (tensor.role != "weight") continue;
      SATURN_TRY(const Sums update, of_update(tensor));
      if (!(update.ratio() <= largest.update)) {
        largest.update = update.ratio();
        largest.update_tensor = tensor.name;
      }
      const Tensor* const moment = after_.find("exp_avg", tensor.name);
      if (moment == nullptr) continue;
      SATURN_TRY(const Sums gradient, of_moment(*moment));
      if (!(gradient.ratio() <= largest.gradient)) {
        largest.gradient = gradient.ratio();
        largest.gradient_tensor = tensor.name;
      }
    }
    return largest;
  }

 private:
  static Result<const Tensor*> same_in(const Stored& stored, const Tensor& tensor) {
    const Tensor* const found = stored.find(tensor.role, tensor.name);
    if (found != nullptr && found->shape == tensor.shape) return found;
    return Diagnostic{.kind = Kind::job_failed,
                      .what = "its checkpoint has no " + tensor.role + " of " + in_quotes(tensor.name) +
                              (found == nullptr ? "" : " of the same shape"),
                      .expected = "the tensors that single has"};
  }

  // Slab by slab: `visit(first row, number of rows)`.
  template <class Visit>
  static Result<void> in_slabs(const Tensor& tensor, const Visit& visit) {
    const std::int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
    const std::int64_t row = std::max<std::int64_t>(1, tail_elements(tensor.shape, 1));
    const std::int64_t at_once = std::max<std::int64_t>(1, kSlabElements / row);
    for (std::int64_t first = 0; first < rows; first += at_once)
      SATURN_TRY_VOID(visit(first, std::min(at_once, rows - first)));
    return {};
  }

  /// Mean of the squares where `tensor` is a first moment, else of the values.
  Result<double> mean_of(const Tensor& tensor) {
    double sum = 0.0;
    std::int64_t count = 0;
    Values values;
    SATURN_TRY_VOID(in_slabs(tensor, [&](std::int64_t first, std::int64_t num_rows) -> Result<void> {
      SATURN_TRY_VOID(after_.read_rows(tensor, first, num_rows, values));
      for (const float value : values) sum += as_square(tensor, value);
      count += static_cast<std::int64_t>(values.size());
      return {};
    }));
    return count > 0 ? sum / static_cast<double>(count) : 0.0;
  }

  static double as_square(const Tensor& moment, float value) {
    return moment.role == "exp_avg" ? double{value} * value : double{value};
  }

  Result<Sums> of_update(const Tensor& tensor) {
    SATURN_TRY(const Tensor* const before, same_in(before_, tensor));
    SATURN_TRY(const Tensor* const other, same_in(other_, tensor));
    const Tensor* squares = after_.find("exp_avg_sq", tensor.name);
    if (squares == nullptr) squares = after_.find("exp_avg", tensor.name);
    double least = -1.0;
    if (squares != nullptr) {
      SATURN_TRY(const double mean, mean_of(*squares));
      least = kNoGradient * mean;
    }
    Sums sums;
    Values w0, w1, v1, square;
    SATURN_TRY_VOID(in_slabs(tensor, [&](std::int64_t first, std::int64_t num_rows) -> Result<void> {
      SATURN_TRY_VOID(before_.read_rows(*before, first, num_rows, w0));
      SATURN_TRY_VOID(after_.read_rows(tensor, first, num_rows, w1));
      SATURN_TRY_VOID(other_.read_rows(*other, first, num_rows, v1));
      if (squares != nullptr) SATURN_TRY_VOID(after_.read_rows(*squares, first, num_rows, square));
      for (std::size_t i = 0; i < w1.size(); ++i) {
        if (squares != nullptr && as_square(*squares, square[i]) < least) continue;
        const double own = double{w1[i]} - w0[i];
        // Both from the reference's beginning: weights that began elsewhere are a difference too.
        const double apart = double{v1[i]} - w1[i];
        sums.difference += apart * apart;
        sums.reference += own * own;
      }
      return {};
    }));
    return sums;
  }

  Result<Sums> of_moment(const Tensor& moment) {
    SATURN_TRY(const Tensor* const other, same_in(other_, moment));
    Sums sums;
    Values m, n;
    SATURN_TRY_VOID(in_slabs(moment, [&](std::int64_t first, std::int64_t num_rows) -> Result<void> {
      SATURN_TRY_VOID(after_.read_rows(moment, first, num_rows, m));
      SATURN_TRY_VOID(other_.read_rows(*other, first, num_rows, n));
      for (std::size_t i = 0; i < m.size(); ++i) {
        const double apart = double{n[i]} - m[i];
        sums.difference += apart * apart;
        sums.reference += double{m[i]} * m[i];
      }
      return {};
    }));
    return sums;
  }

  Stored before_, after_, other_;
};

}  // namespace

Result<Differences> compare(const Ends& reference, const std::string& other) {
  SATURN_TRY(Stored before, Stored::open(reference.before));
  SATURN_TRY(Stored after, Stored::open(reference.after));
  SATURN_TRY(Stored compared, Stored::open(other));
  return Comparison(std::move(before), std::move(after), std::move(compared)).run();
}

}  // namespace saturn::verify
