// A model larger than the device that trains it: its layers pass through the device one after the other, and
// what does not fit lies in a slow tier. What offload is made of.
//
// A slice is one layer with its parameters. Each step goes through the slices forward and back; for each, all
// micro-batches are computed before the next, so that a slice is fetched twice a step whatever their number.
// Forward keeps only the inputs of slices; backward runs a slice again and then its gradient, which goes to
// the tier. When the norm of all gradients is known, the host updates the slices in the order in which the
// next forward needs them, while the device is already at work on it.
//
// The update waits for the norm also where nothing is clipped: a norm that is not finite then changes no
// weight, as with every other technique. It costs a gradient's way to the tier and back, 8 bytes a parameter
// of about 40 that a step moves, and with it every job, clipped or not, overlaps its update with computing.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/train/optimizer.h"
#include "saturn/train/technique.h"

namespace saturn::train {

class BackgroundThread;
class Copier;
class Copy;
class SlowTier;

class StreamedModel {
 public:
  /// `resident`: slices that stay on the device with gradients and optimiser state, and are trained there;
  /// where absent, as many as the first step leaves room for. `directory`: see SlowTier::make.
  StreamedModel(Model& model, const batch::Job& job, c10::Device device, std::string directory,
                std::optional<std::int64_t> resident);
  ~StreamedModel();

  /// Fills every parameter from `source`, straight into the tier; the optimiser starts at zero.
  Result<void> place(WeightSource& source);

  /// As in Technique.
  Result<StepStats> step(const MicroBatches& batches, double learning_rate);
  Result<EvaluationSums> evaluate(const MicroBatches& batches);
  Result<void> for_each_state(const StateVisitor& visit);
  void state_loaded();
  at::Tensor gather_weight(std::size_t index);

  /// Slices that are on the device for good; settled once `is_tuned`.
  std::int64_t num_resident() const;
  bool is_tuned() const { return tuned_; }

  /// A step's "copy_s" and "update_s" on average; "hidden_copy_share": of both, the share that the training
  /// did not wait for; and on CPU slots "disk_bytes" of the tier's file.
  std::map<std::string, double> measured() const { return measured_; }

 private:
  using Future = std::shared_future<void>;
  using CopyPtr = std::shared_ptr<Copy>;

  /// A parameter with its training state: in the tier, or on the device where its slice is resident.
  struct Held {
    ParameterPtr parameter;
    at::Tensor weight;              ///< fp32 master
    at::Tensor compute;             ///< what layers compute with: the weight itself, or its copy in bf16
    at::Tensor gradient;            ///< in the tier: the sum so far; on the device: undefined between steps
    std::vector<at::Tensor> state;  ///< the optimiser's, by role
    std::size_t slice = 0;          ///< the first that uses it, which owns it
    CopyPtr gradient_copy;          ///< the last that wrote `gradient` in the tier
  };

  /// A parameter in one slice that uses it.
  struct Use {
    std::size_t held = 0;
    bool begins = true;     ///< backward comes to it here first: there is no sum of gradients yet
    bool completes = true;  ///< and here last
    at::Tensor leaf;        ///< on the device, while the slice is
    at::Tensor gradient;    ///< in fp32, while the slice's backward runs
  };

  struct Slice {
    Layer* layer = nullptr;
    std::vector<Use> uses;
    std::vector<std::size_t> owned;  ///< indices of held_
    bool resident = false;
    bool here = false;      ///< its leaves are on the device, or under way by `weights`
    bool has_sums = false;  ///< likewise the gradients that other slices began, by `sums`
    CopyPtr weights, sums;
    Future updated;  ///< of the last step's update
    std::optional<Optimizer> optimizer;
  };

  /// Slices in the order in which they are visited, and the visit that is under way.
  struct Visits {
    std::vector<std::size_t> order;
    std::size_t at = 0;
    std::size_t first_backward = 0;  ///< position in `order`
  };

  void find_slices();
  /// Indices of held_: those that the slice owns and that are trained.
  std::vector<std::size_t> trained_of(const Slice& slice) const;
  /// The first slice that uses something trained.
  std::size_t lowest_trained() const;
  std::vector<std::size_t> order_of_residence() const;
  Result<void> place_in_tier();
  void place_on_device(Held& held);
  void make_optimizer(Slice& slice);
  void tune_residence();
  void refresh_compute(Held& held);

  void enter(const Visits& visits);
  void leave_all();
  static bool share_parameters(const Slice& one, const Slice& other);
  void fetch_weights(Slice& slice);
  void fetch_sums(Slice& slice);
  void release(Slice& slice);
  void collect_gradients(Slice& slice);
  void send_gradients(Slice& slice);
  void update(std::int64_t step, double learning_rate, double gradient_scale);
  void update_slice(Slice& slice, std::int64_t step, double learning_rate, double gradient_scale);
  void settle();

  Model& model_;
  const batch::Job& job_;
  c10::Device device_;
  std::string directory_;
  std::optional<std::int64_t> wanted_resident_;
  bool tuned_ = false;
  bool computes_in_bf16_;
  std::vector<Held> held_;  ///< in the order of Model::parameters()
  std::vector<Slice> slices_;
  std::vector<at::Tensor> norms_;  ///< of held_'s gradients, in this step
  std::deque<CopyPtr> sent_;       ///< gradients on their way to the tier
  std::int64_t num_steps_ = 0;
  std::atomic<double> update_s_{0.0};
  std::map<std::string, double> measured_;
  std::int64_t tier_bytes_ = 0;
  std::unique_ptr<SlowTier> tier_;
  std::unique_ptr<Copier> copier_;              ///< after what its tasks use
  std::unique_ptr<BackgroundThread> updating_;  ///< likewise, and `copier_`'s copies
};

}  // namespace saturn::train
