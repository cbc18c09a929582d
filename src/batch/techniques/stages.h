// Memory and time of a job over a mesh: data x pipeline x tensor, each extent possibly one. What pipeline and
// hybrid share.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "batch/family.h"
#include "batch/techniques/parts.h"
#include "saturn/batch/pipeline_balance.h"
#include "saturn/batch/pipeline_schedule.h"

namespace saturn::batch::techniques {

/// A configuration's mesh and schedule, as its knobs say; pipeline leaves out the extents.
struct Stages {
  int data = 1;
  int pipeline = 1;
  int tensor = 1;
  int micro_batches = 1;
  PipelineOrder order = PipelineOrder::one_forward_one_backward;
  bool sharded = false;   ///< over `data`, as fsdp does; else every rank of it has a replica
  bool reshards = true;   ///< sharded: backward gathers again
  std::vector<int> cuts;  ///< empty: as the model of time would cut

  int num_ranks() const { return data * pipeline * tensor; }
};
/// Of a configuration that `candidates` made or a trial tuned.
Stages stages_of(const Configuration& configuration);

/// Layers that stages can have: the embedding, the blocks, the head.
int num_stage_layers(const ModelSpec& model);

/// Why models of `family` cannot be cut into stages; nothing where they can.
std::optional<std::string> stages_refusal(const Family& family);
/// The same of the model's family, and where it has fewer layers than there are stages.
std::optional<std::string> stages_refusal(const ModelSpec& model, int num_stages);

/// Numbers of micro-batches worth a trial where a replica has `num_rows` rows, best guess first.
std::vector<int> micro_batch_counts(int num_stages, int num_rows);

/// Bytes of the rank that needs most.
std::int64_t stages_memory_bytes(const Job& job, const DataSource& data, const Configuration& configuration);

double stages_step_time_s(const Job& job, const DataSource& data, const Configuration& configuration);

}  // namespace saturn::batch::techniques
