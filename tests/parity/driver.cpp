// Trains a stored model on given batches through the product's own parts, for the scripts beside it to
// compare with other implementations.
//
//   driver MODEL_DIR BATCHES OUT SAVE_DIR SETTINGS
//
// BATCHES: safetensors with `batches` [S, B, T + 1] in I64, or of images `pixels` [S, B, C, H, W] in F32 and
// `labels` [S, B] in I64. SETTINGS: a JSON object with any of optimizer, lr, weight_decay, momentum,
// nesterov, clip_norm, micro_batches, label_smoothing, lora (rank, alpha, targets, start). OUT receives
// `losses` [S], `norms` [S] and the gradients of the first step as `gradient.NAME`; SAVE_DIR the model after
// the last step, SAVE_DIR-adapter its adapters.

#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "saturn/base/json.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/data/micro_batch.h"
#include "saturn/formats/safetensors.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn {
namespace {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The value, or the end of this process with the faults on stderr.
template <class T>
T must(Result<T> result) {
  if (!result.ok()) {
    std::fputs(to_text(result.faults()).c_str(), stderr);
    std::exit(2);
  }
  return *std::move(result);
}

void must(const Result<void>& result) {
  if (result.ok()) return;
  std::fputs(to_text(result.faults()).c_str(), stderr);
  std::exit(2);
}

/// What the script wrote under `name`; undefined where it wrote nothing.
at::Tensor read_tensor(const formats::Safetensors& file, const char* name, formats::Dtype dtype) {
  const formats::StoredTensor* stored = file.find(name);
  if (stored == nullptr) return {};
  SATURN_CHECK(stored->dtype == dtype, "the script writes labels and tokens in I64, pixels in F32");
  at::Tensor tensor = at::empty(stored->shape, dtype == formats::Dtype::i64 ? at::kLong : at::kFloat);
  std::memcpy(tensor.mutable_data_ptr(), stored->bytes.data(), stored->bytes.size());
  return tensor;
}

/// Inputs and targets of all steps, [S, B, ...].
struct Batches {
  at::Tensor inputs;
  at::Tensor targets;
};

Batches read_batches(const std::string& path) {
  const formats::Safetensors file = must(formats::Safetensors::open(path));
  const at::Tensor tokens = read_tensor(file, "batches", formats::Dtype::i64);
  if (!tokens.defined())
    return {read_tensor(file, "pixels", formats::Dtype::f32),
            read_tensor(file, "labels", formats::Dtype::i64)};
  const std::int64_t length = tokens.size(2) - 1;
  return {tokens.narrow(2, 0, length).contiguous(), tokens.narrow(2, 1, length).contiguous()};
}

/// The rows of one global batch as `parts` micro-batches.
std::vector<data::MicroBatch> micro_batches_of(const at::Tensor& inputs, const at::Tensor& targets,
                                               std::int64_t parts) {
  std::vector<data::MicroBatch> all;
  for (const data::RowRange& rows : data::split_rows({.first = 0, .count = inputs.size(0)}, parts))
    all.push_back(
        {rows, inputs.narrow(0, rows.first, rows.count), targets.narrow(0, rows.first, rows.count)});
  return all;
}

void write_tensors(const std::string& path, const NamedTensors& tensors) {
  std::vector<formats::StoredTensor> described;
  for (const auto& [name, tensor] : tensors) {
    described.push_back(
        {.name = name, .dtype = formats::Dtype::f32, .shape = tensor.sizes().vec(), .bytes = {}});
  }
  must(formats::write_safetensors(path, described, [&](std::size_t index) {
    const at::Tensor& tensor = tensors[index].second;
    return std::string_view(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }));
}

int run(char** arguments) {
  batch::Job job{.name = "parity", .model = must(batch::find_model(arguments[1], ".", {}))};
  const Json settings = must(parse_json(arguments[5], "settings"));
  job.optimizer.kind = settings.value("optimizer", "adamw");
  job.optimizer.lr = settings.value("lr", 1e-3);
  job.optimizer.weight_decay = settings.value("weight_decay", 0.0);
  job.optimizer.momentum = settings.value("momentum", 0.0);
  job.optimizer.nesterov = settings.value("nesterov", false);
  job.optimizer.clip_norm = settings.value("clip_norm", 0.0);
  job.micro_batches = settings.value("micro_batches", 1);
  if (settings.contains("lora")) {
    const Json& lora = settings["lora"];
    job.lora = {.rank = lora.at("rank").get<int>(),
                .alpha = lora.at("alpha").get<double>(),
                .targets = lora.at("targets").get<std::vector<std::string>>(),
                .start = lora.at("start").get<std::string>()};
    must(batch::read_adapter_config(job.lora->start, job.model.family));
  }

  const std::unique_ptr<train::Model> model =
      must(train::make_model(job.model, {.label_smoothing = settings.value("label_smoothing", 0.0)}));
  must(train::fine_tune(*model, job));
  const std::unique_ptr<train::WeightSource> weights =
      must(train::with_adapters(*model, job, must(train::open_weights(*model, job.model.directory))));
  const std::unique_ptr<train::Communicator> alone = must(train::Communicator::connect({}));
  train::WholePlacement placement(
      {.model = *model, .job = job, .data = *alone, .end_layer = model->layers.size()});
  must(placement.place(*weights));
  for (const train::ParameterPtr& buffer : model->buffers()) {
    buffer->value = at::empty(buffer->shape, at::kFloat);
    must(weights->read(*buffer, 0, buffer->value.view({-1})));
  }
  train::HeldOptimizer optimizer(job.optimizer, placement);

  const Batches batches = read_batches(arguments[2]);
  const std::int64_t num_steps = batches.inputs.size(0);
  const std::int64_t num_targets = batches.targets[0].numel();
  NamedTensors out;
  at::Tensor losses = at::empty({num_steps}, at::kFloat);
  at::Tensor norms = at::empty({num_steps}, at::kFloat);
  for (std::int64_t step = 0; step < num_steps; ++step) {
    placement.begin_step();
    train::MicroBatches batches_of_step{
        .step = step,
        .num_rows = batches.inputs.size(1),
        .num_targets = num_targets,
        .parts = micro_batches_of(batches.inputs[step], batches.targets[step], job.micro_batches)};
    double loss_sum = 0.0;
    for (const train::MicroBatch& part : batches_of_step.parts) {
      const train::StepContext context = train::training_context(job, batches_of_step, part);
      loss_sum += train::accumulate(placement, *model, part, context, num_targets, c10::kCPU).item<double>();
    }
    placement.finish_gradients();
    if (step == 0) {
      for (const train::HeldTensor& held : placement.held()) {
        if (!held.parameter->trains) continue;
        out.emplace_back("gradient." + held.parameter->name, held.gradient.clone().contiguous());
      }
    }
    const train::StepStats stats = optimizer.update(step, job.optimizer.lr, loss_sum, *alone);
    losses[step] = loss_sum / static_cast<double>(num_targets);
    norms[step] = stats.gradient_norm;
  }
  out.emplace_back("losses", losses);
  out.emplace_back("norms", norms);
  write_tensors(arguments[3], out);
  const std::vector<train::ParameterPtr> buffers = model->buffers();
  must(train::write_weights(
      *model,
      [&](std::size_t index) {
        const std::size_t num_held = placement.held().size();
        return index < num_held ? placement.held()[index].weight : buffers[index - num_held]->value;
      },
      arguments[4], std::string(arguments[4]) + "-adapter"));
  return 0;
}

}  // namespace
}  // namespace saturn

int main(int count, char** arguments) {
  if (count != 6) {
    std::fputs("usage: see the head of tests/parity/driver.cpp\n", stderr);
    return 2;
  }
  return saturn::run(arguments);
}
