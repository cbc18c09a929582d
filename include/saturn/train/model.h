// What a model is to the techniques that train it: a list of layers of plain single-device code.
//
// Shapes: B rows of a micro-batch, T tokens, C width, V vocabulary.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/train/parameter.h"

namespace saturn::batch {
struct ImageSettings;
struct Job;
struct ModelSpec;
}  // namespace saturn::batch

namespace saturn::train {

class Communicator;
class TensorGroup;

/// Predictions of a classifier that were right.
struct Tally {
  std::int64_t num_samples = 0;
  std::int64_t num_right = 0;       ///< the likeliest class was the true one
  std::int64_t num_right_in_5 = 0;  ///< one of the five likeliest
};

/// Where in the training a forward happens. Everything random in a layer is a pure function of
/// (seed, step, the layer's name, row of the global batch, element), so that no technique changes it.
struct StepContext {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::int64_t first_row = 0;  ///< row of the global batch that is row 0 of this micro-batch
  bool training = true;        ///< false: no dropout
  bool again = false;          ///< backward runs a forward once more, which then leaves buffers as they are
  double loss_weight = 1.0;    ///< factor of the summed loss; 1 / targets of the global batch while training
  const TensorGroup* tensor = nullptr;  ///< the ranks that split each layer; null where one rank has it whole
  Communicator* rows = nullptr;  ///< the ranks that hold the batch's other rows; null where one has them all
  bool rows_count = true;        ///< false: these rows only take part in what all ranks do together
  Tally* tally = nullptr;        ///< where a head that classifies counts its predictions while evaluating
};

/// One step of the forward pass, with the parameters it uses. Layers know nothing of devices, ranks or
/// techniques; the code runs where its input and its parameters lie, in the parameters' precision.
///
/// A layer that can be split says how its parameters are (Parameter::split), marks where the split region
/// begins and ends (ops::enter_split, ops::leave_split), and takes its sizes from its parameters' values.
class Layer {
 public:
  explicit Layer(std::string name) : name_(std::move(name)) {}
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  /// The first layer takes the samples' inputs (text: int64 tokens_BT; images: fp32 pixels_BCHW), every other
  /// one the output of the layer before it.
  virtual at::Tensor forward(const at::Tensor& input, const StepContext& context) = 0;

  const std::string& name() const { return name_; }
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  /// Tensors that forward itself changes while training, such as running statistics.
  const std::vector<ParameterPtr>& buffers() const { return buffers_; }

  /// Puts a low-rank adapter beside the linear map whose weight is `target`, a parameter of this layer that
  /// no other layer uses. Its maps come before `target` in parameters().
  void adapt(const ParameterPtr& target, std::int64_t rank, double scale);

 protected:
  /// Declares a parameter of this layer, or takes part in one that another layer declared.
  ParameterPtr declare(Parameter parameter);
  ParameterPtr share(ParameterPtr parameter);
  /// Declares a buffer: in fp32, the same on every rank, saved and exported, never optimised.
  ParameterPtr declare_buffer(Parameter buffer);

 private:
  std::string name_;
  std::vector<ParameterPtr> parameters_;
  std::vector<ParameterPtr> buffers_;
};

/// The last layer. `forward` gives the outputs (text: logits_BTV; images: logits_BV) for evaluation and
/// export.
class Head : public Layer {
 public:
  using Layer::Layer;

  /// `context.loss_weight` times the loss summed over all targets: a scalar in fp32. The gradient of the
  /// whole step is what `backward()` of this scalar gives, so the weight may be used inside fused code.
  virtual at::Tensor loss(const at::Tensor& input, const at::Tensor& targets, const StepContext& context) = 0;
};

/// Layers in the order of the forward pass; the last is the head.
struct Model {
  std::string family;
  std::vector<std::unique_ptr<Layer>> layers;
  Head* head = nullptr;     ///< layers.back()
  Json config;              ///< Hugging Face's config.json of this model
  Json adapter_config;      ///< PEFT's adapter_config.json where layers have adapters, else null
  std::string base_prefix;  ///< begins most names; files of the bare body (no head) leave it out
  std::vector<std::string> ignored_suffixes;  ///< of stored tensors that are no parameters, such as masks
  std::string head_prefix;  ///< begins the names of a classifier's last map, which may be made anew

  /// Every parameter once, in the order of first use.
  std::vector<ParameterPtr> parameters() const;
  /// Likewise every buffer.
  std::vector<ParameterPtr> buffers() const;
};

/// Whole-model forward. `loss` is Head::loss at the end, `outputs` Head::forward.
at::Tensor loss(Model& model, const at::Tensor& inputs, const at::Tensor& targets,
                const StepContext& context);
at::Tensor outputs(Model& model, const at::Tensor& inputs, const StepContext& context);

/// What a job adds to a ModelSpec.
struct ModelOptions {
  int vocabulary = 0;       ///< of the data, where the spec leaves it open; 0: the spec's own
  int sequence_length = 0;  ///< of the data; at most the spec's longest
  double dropout = 0.0;
  double label_smoothing = 0.0;                  ///< of classifiers
  const batch::ImageSettings* images = nullptr;  ///< of the data, where it is of images: for config.json
};

/// One architecture: a file in models/ that ends in its entry, and a line in models/registry.def.
struct ModelEntry {
  const char* family = nullptr;
  Result<std::unique_ptr<Model>> (*make)(const batch::ModelSpec& spec, const ModelOptions& options) = nullptr;
};

/// In the order of models/registry.def.
const std::vector<ModelEntry>& model_entries();

/// The model of `spec.family`, its parameters declared and not placed.
Result<std::unique_ptr<Model>> make_model(const batch::ModelSpec& spec, const ModelOptions& options);

/// Freezes what `job` does not train, and declares its adapters (batch/fine_tune.h). Before anything is
/// placed.
///
/// Errors: Kind::input: a target that is no linear map; nothing left to train.
Result<void> fine_tune(Model& model, const batch::Job& job);

/// Where the parameters of `model` come from under `job`: its weights from `model_weights`, its adapters at
/// random or from the directory that the job names.
Result<std::unique_ptr<WeightSource>> with_adapters(const Model& model, const batch::Job& job,
                                                    std::unique_ptr<WeightSource> model_weights);

/// The weights of a Hugging Face directory for `model`; missing, extra and mis-shaped tensors are all named.
/// Where `new_head` is given, what begins with `Model::head_prefix` comes from there instead.
Result<std::unique_ptr<WeightSource>> open_weights(const Model& model, const std::string& directory,
                                                   std::unique_ptr<WeightSource> new_head = nullptr);

/// The whole weight `index` of Model::parameters() and, after those, of Model::buffers(): fp32, on the CPU.
/// Good until the next call.
using WeightOf = std::function<at::Tensor(std::size_t index)>;

/// Writes `directory` (made where absent): model.safetensors, sharded where large, and config.json, as
/// `transformers` loads them; with adapters the weights are those that the layers see, and
/// `adapter_directory` gets what PEFT loads beside the model that the job began with. Each weight is asked
/// for once, in ascending order.
Result<void> write_weights(const Model& model, const WeightOf& weight_of, const std::string& directory,
                           const std::string& adapter_directory = "");

}  // namespace saturn::train
