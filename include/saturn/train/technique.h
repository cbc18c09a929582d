// What a way to train is to the trainer that drives it, and how a technique enters the library.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/data/dataset.h"
#include "saturn/data/micro_batch.h"
#include "saturn/train/communicator.h"
#include "saturn/train/model.h"

namespace saturn::batch {
struct Configuration;
struct Job;
}  // namespace saturn::batch

namespace saturn::train {

using data::MicroBatch;
using data::MicroBatches;
using data::RowRange;

/// What one optimiser step did.
struct StepStats {
  double loss_sum = 0.0;       ///< over this rank's targets that count; the trainer adds the ranks'
  double gradient_norm = 0.0;  ///< of the whole model before clipping, the same on every rank
  bool applied = true;         ///< false: the norm is not finite, and no weight was changed (on any rank)
};

/// Sums of this rank's rows; the trainer adds them over the ranks.
struct EvaluationSums {
  double loss_sum = 0.0;
  std::int64_t num_targets = 0;
  Tally tally;  ///< of classifiers
};

/// A box of one tensor of the training state, as this rank holds it. `piece` is the live storage: reading it
/// saves, writing into it loads.
struct StateTensor {
  std::string name;                   ///< of the parameter
  std::string role;                   ///< "weight" (fp32), or the optimiser's: "exp_avg", "exp_avg_sq"
  std::vector<std::int64_t> shape;    ///< of the whole tensor
  std::vector<std::int64_t> offsets;  ///< of the piece in it
  at::Tensor piece;
  bool primary = true;          ///< of the ranks that hold this piece, this one writes it
  bool in_slow_memory = false;  ///< mapped from a file: written from where it is, never copied for a save
};
using StateVisitor = std::function<Result<void>(const StateTensor&)>;

/// What a technique is made from. It owns the model; everything else outlives it.
struct TechniqueContext {
  const batch::Job& job;
  const batch::Configuration& configuration;
  std::unique_ptr<Model> model;
  Communicator& communicator;
  c10::Device device{c10::kCPU};
  std::string directory = {};  ///< where it may put files while it runs; empty = the system's temporary one
  data::Samples example = {};  ///< one training sample: what layers are measured with before the first step
};

/// One way to train. Calls come in this order, on every rank alike: `prepare` once, then any of the others.
/// LibTorch's exceptions pass through and are told apart where a rank's life is wrapped.
class Technique {
 public:
  explicit Technique(TechniqueContext context);
  virtual ~Technique() = default;
  Technique(const Technique&) = delete;
  Technique& operator=(const Technique&) = delete;

  /// Places the parameters and fills them from `source`; the optimiser starts at zero.
  virtual Result<void> prepare(WeightSource& source) = 0;

  /// The rows of a global batch that this rank computes, one range per micro-batch. The default deals them to
  /// the ranks evenly, each share cut into the job's `micro_batches`.
  virtual std::vector<RowRange> micro_batches_of(std::int64_t num_rows) const;

  /// Forward, backward, clipping and the optimiser's step over one global batch.
  virtual Result<StepStats> step(const MicroBatches& batches, double learning_rate) = 0;

  /// Loss without training; the model does not change.
  virtual Result<EvaluationSums> evaluate(const MicroBatches& batches) = 0;

  /// Every piece of state that this rank holds, in an order that is the same in every run.
  virtual Result<void> for_each_state(const StateVisitor& visit) = 0;

  /// Called after `for_each_state` was used to load: derived copies are remade.
  virtual void state_loaded() {}

  /// Waits until the device has done what was asked of it, so that a clock read next is honest.
  void synchronize() const;

  /// The whole weight `index` of Model::parameters() and then buffers(), in fp32 on the CPU: on rank 0
  /// (others may return an undefined tensor). A collective, called for every index in ascending order; a
  /// tensor may share memory that the next call writes, so that no one ever holds a whole model.
  virtual at::Tensor gather_weight(std::size_t index) = 0;

  /// Numbers of the technique's own about the steps so far, such as "hidden_copy_share".
  virtual std::map<std::string, double> measured() const { return {}; }

  /// The configuration's knobs with what this technique measured and chose filled in. Ask after a step; with
  /// these as its knobs the technique measures nothing and trains the same way. The same on every rank.
  virtual Json tuned_knobs() const;

  const Model& model() const { return *context_.model; }

 protected:
  TechniqueContext context_;
};

/// A technique as the registry lists it; its torch-free half is the batch module's TechniqueSpec.
struct TechniqueEntry {
  const char* name = nullptr;
  const char* summary = nullptr;
  std::unique_ptr<Technique> (*make)(TechniqueContext context) = nullptr;
};

template <class T>
std::unique_ptr<Technique> make(TechniqueContext context) {
  return std::make_unique<T>(std::move(context));
}

/// In the order of src/techniques/registry.def.
const std::vector<TechniqueEntry>& technique_entries();

}  // namespace saturn::train
