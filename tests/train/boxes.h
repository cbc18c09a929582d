// Ranks whose state is the boxes they are given: for tests of saving and loading.

#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/technique.h"

namespace saturn::testing {

inline const batch::Job kJob;
inline const batch::Configuration kConfiguration;

/// A rank that holds the boxes it is given.
class Boxes final : public train::Technique {
 public:
  Boxes(std::vector<train::StateTensor> boxes, train::Communicator& alone)
      : Technique({.job = kJob, .configuration = kConfiguration, .communicator = alone}),
        boxes_(std::move(boxes)) {}
  Result<void> prepare(train::WeightSource&) override { return {}; }
  Result<train::StepStats> step(const train::MicroBatches&, double) override { return train::StepStats{}; }
  Result<train::EvaluationSums> evaluate(const train::MicroBatches&) override {
    return train::EvaluationSums{};
  }
  at::Tensor gather_weight(std::size_t) override { return {}; }
  void state_loaded() override { loaded = true; }
  Result<void> for_each_state(const train::StateVisitor& visit) override {
    for (const train::StateTensor& box : boxes_) SATURN_TRY_VOID(visit(box));
    return {};
  }
  const at::Tensor& piece(std::size_t i) const { return boxes_[i].piece; }
  bool loaded = false;

 private:
  std::vector<train::StateTensor> boxes_;
};

/// Element (i, j) of the 6 x 5 tensor is 10 i + j, of the second 1000 more.
inline at::Tensor whole(double offset = 0.0) {
  return at::arange(6, at::kFloat).unsqueeze(1) * 10.0 + at::arange(5, at::kFloat) + offset;
}

inline train::StateTensor box(const std::string& role, at::Tensor piece, std::vector<std::int64_t> offsets,
                              bool primary = true) {
  return {"w", role, {6, 5}, std::move(offsets), std::move(piece), primary};
}

inline train::StateTensor cut(const std::string& role, double offset, std::int64_t row, std::int64_t rows,
                              std::int64_t column, std::int64_t columns) {
  return box(role, whole(offset).narrow(0, row, rows).narrow(1, column, columns).clone(), {row, column});
}

}  // namespace saturn::testing
