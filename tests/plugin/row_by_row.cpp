// A technique from outside, in one file: one device, gradients accumulated row by row, so that what forward
// keeps for backward is a single row's whatever the batch size.

#include <algorithm>

#include "saturn/batch/memory_model.h"
#include "saturn/batch/time_model.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/technique_library.h"
#include "saturn/train/whole_placement.h"

namespace {

using namespace saturn;

constexpr const char* kName = "row-by-row";
constexpr const char* kSummary = "one process, one row of the batch at a time";

class RowByRow final : public train::PlacedTechnique {
 public:
  using PlacedTechnique::PlacedTechnique;

  std::vector<train::RowRange> micro_batches_of(std::int64_t num_rows) const override {
    return data::split_rows({0, num_rows}, num_rows);
  }

 protected:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext whole, whole_model_context());
    return std::unique_ptr<train::Placement>(std::make_unique<train::WholePlacement>(whole));
  }
};

std::optional<std::string> refusal(const batch::Job&, const batch::DeviceGroup& devices) {
  if (devices.num_devices > 1) return "runs on one device";
  return std::nullopt;
}

std::vector<batch::Configuration> candidates(const batch::Job&, const batch::DeviceGroup& devices) {
  return {{.technique = kName, .device_class = devices.device_class}};
}

std::int64_t predicted_memory_bytes(const batch::Job& job, const batch::DataSource& data,
                                    const batch::Configuration&) {
  const batch::ActivationBytes row = batch::activation_bytes(job, data, 1);
  return batch::state_bytes_per_parameter(job).all() * job.model.num_parameters +
         row.kept(job.model.num_layers, batch::Checkpointing::none) + std::max(row.head, row.block_working);
}

double predicted_step_time_s(const batch::Job& job, const batch::DataSource& data,
                             const batch::Configuration& one) {
  return batch::compute_time_s(job, data, batch::Checkpointing::none,
                               batch::rates_of(one.device_class, job.precision), 1);
}

train::TechniqueFromLibrary row_by_row() {
  return {.trains = {.name = kName, .summary = kSummary, .make = &train::make<RowByRow>},
          .plans = {.name = kName,
                    .summary = kSummary,
                    .applies_to = "one GPU, a share of one, or a CPU slot",
                    .splits_batch = false,
                    .refusal = &refusal,
                    .candidates = &candidates,
                    .predicted_memory_bytes = &predicted_memory_bytes,
                    .predicted_step_time_s = &predicted_step_time_s}};
}

}  // namespace

SATURN_TECHNIQUE_LIBRARY(row_by_row)
