// Sizes of weights and checkpoints against free space.

#include "run/disk.h"

#include "saturn/base/files.h"
#include "saturn/base/units.h"

namespace saturn::run {
namespace {

constexpr std::int64_t kBytesPerParameter = 4;
constexpr std::int64_t kStateCopies = 3;  // a checkpoint: weights and two moments

}  // namespace

std::uint64_t bytes_to_write(const batch::Job& job, const batch::RunSettings& settings) {
  const std::int64_t weights = job.model.num_parameters * kBytesPerParameter;
  // One more than are kept: the oldest goes when the newest is there.
  const std::int64_t checkpoints = settings.checkpoint_every > 0 ? settings.keep_checkpoints + 1 : 1;
  return static_cast<std::uint64_t>(weights + checkpoints * kStateCopies * weights);
}

Result<void> foresee_disk(const batch::Batch& batch, const journal::RunState& state,
                          const std::string& root) {
  std::uint64_t needed = 0;
  for (const batch::Job& job : batch.jobs) {
    const journal::JobRecord* const record = state.find(job.name);
    if (record == nullptr || !journal::is_final(record->state)) needed += bytes_to_write(job, batch.run);
  }
  SATURN_TRY(const std::uint64_t free, free_bytes(root));
  if (free >= needed) return {};
  return Diagnostic{
      .kind = Kind::machine,
      .where = root,
      .what = format_bytes(static_cast<double>(free)) + " are free, and this run writes up to " +
              format_bytes(static_cast<double>(needed)),
      .expected = "room for the weights and checkpoints of every job that is not done",
      .fix = "free space there, choose another directory with --dir, or lower keep_checkpoints"};
}

}  // namespace saturn::run
