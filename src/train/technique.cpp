// What techniques share: how a global batch is dealt to the ranks, and waiting for the device.

#include "saturn/train/technique.h"

#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/gpu.h"

namespace saturn::train {

Technique::Technique(TechniqueContext context) : context_(std::move(context)) {}

std::vector<RowRange> Technique::micro_batches_of(std::int64_t num_rows) const {
  const std::vector<RowRange> shares = data::split_rows({0, num_rows}, context_.communicator.num_ranks());
  const auto rank = static_cast<std::size_t>(context_.communicator.rank());
  if (rank >= shares.size()) return {{.first = 0, .count = 1, .counts = false}};
  return data::split_rows(shares[rank], context_.job.micro_batches);
}

Json Technique::tuned_knobs() const {
  return context_.configuration.knobs;
}

void Technique::synchronize() const {
  if (context_.device.is_cuda()) gpu::synchronize(context_.device);
}

}  // namespace saturn::train
