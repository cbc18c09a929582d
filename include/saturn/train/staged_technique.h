// What techniques over a mesh share: the model's layers cut into the stages of a pipeline (one stage is the
// whole model), every stage placed over its data dimension, micro-batches in the order of a schedule.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/batch/pipeline_schedule.h"
#include "saturn/train/mesh.h"
#include "saturn/train/pipeline_stage.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/tensor_group.h"

namespace saturn::train {

/// Knobs: "micro_batches" (of one replica's share of a batch; absent: four for every stage, as far as there
/// are rows), "order" ("1f1b" where absent, or "gpipe"), "cuts" (first layers of stages 1, 2, ...; absent:
/// measured by `prepare` and then reported by `tuned_knobs`), and "checkpointing".
///
/// Errors of `prepare`: Kind::input for a mesh that is not as large as the job, more stages than layers, more
/// micro-batches than rows, cuts that do not cut; Kind::infeasible where no stages fit in memory.
class StagedTechnique : public PlacedTechnique {
 public:
  using PlacedTechnique::PlacedTechnique;

  Result<void> prepare(WeightSource& source) override;
  std::vector<RowRange> micro_batches_of(std::int64_t num_rows) const override;
  Result<StepStats> step(const MicroBatches& batches, double learning_rate) override;
  Result<EvaluationSums> evaluate(const MicroBatches& batches) override;
  Json tuned_knobs() const override;
  /// "bubble": of the steps so far, the share of time in which this rank's stage had nothing to compute; on
  /// CPU slots, where a pass is over when its call returns.
  std::map<std::string, double> measured() const override;

 protected:
  /// Called once, before anything is sent: for the knobs too that are a technique's own.
  virtual Result<MeshShape> read_mesh() = 0;
  virtual Result<std::unique_ptr<Placement>> place_stage(PlacementContext context) = 0;
  /// Over how many ranks `place_stage` deals the state of a stage's layers.
  virtual int num_shares_of_state() const { return 1; }
  Mesh& mesh() const { return *mesh_; }

 private:
  Result<std::unique_ptr<Placement>> make_placement() override;
  TensorGroup* tensor_group() override { return tensor_ ? &*tensor_ : nullptr; }
  Result<void> read_knobs(MeshShape shape);
  Result<std::vector<int>> find_cuts();
  Result<std::vector<int>> measured_cuts();
  std::vector<batch::LayerCost> layer_costs(std::int64_t num_rows, Checkpointing checkpointing) const;
  int num_stages() const { return mesh_->shape().pipeline; }
  int num_layers() const { return static_cast<int>(context_.model->layers.size()); }
  /// The largest share of a batch that one replica computes.
  std::int64_t rows_of_replica(int num_replicas, std::int64_t num_rows) const;
  bool counts_loss() const;

  std::unique_ptr<Mesh> mesh_;
  batch::PipelineOrder order_ = batch::PipelineOrder::one_forward_one_backward;
  int num_micro_batches_ = 1;
  std::vector<int> cuts_;
  std::optional<TensorGroup> tensor_;  ///< where the mesh has a tensor dimension
  std::unique_ptr<PipelineStage> stage_;
  double busy_s_ = 0.0;
  double span_s_ = 0.0;
};

}  // namespace saturn::train
