// Sizes of weights and checkpoints against free space.

#include "run/disk.h"

#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/checkpoint/space.h"

namespace saturn::run {

Result<void> foresee_disk(const batch::Batch& batch, const journal::RunState& state,
                          const std::string& root) {
  std::uint64_t needed = 0;
  for (const batch::Job& job : batch.jobs) {
    const journal::JobRecord* const record = state.find(job.name);
    if (record == nullptr || !journal::is_final(record->state))
      needed += static_cast<std::uint64_t>(checkpoint::space_needed(job, batch.run).bytes());
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
