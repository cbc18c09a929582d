// Trains a stored model on given batches through the product's own parts, for the scripts beside it to
// compare with other implementations.
//
//   driver MODEL_DIR BATCHES OUT SAVE_DIR LEARNING_RATE WEIGHT_DECAY CLIP_NORM MICRO_BATCHES
//
// BATCHES: safetensors with `batches` [S, B, T + 1] in I64. OUT receives `losses` [S], `norms` [S] and the
// gradients of the first step as `gradient.NAME`; SAVE_DIR the model after the last step.

#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "saturn/batch/batch.h"
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

at::Tensor read_batches(const std::string& path) {
  const formats::Safetensors file = must(formats::Safetensors::open(path));
  const formats::StoredTensor* stored = file.find("batches");
  SATURN_CHECK(stored != nullptr && stored->dtype == formats::Dtype::i64,
               "the script wrote `batches` in I64");
  at::Tensor batches = at::empty(stored->shape, at::kLong);
  std::memcpy(batches.mutable_data_ptr<std::int64_t>(), stored->bytes.data(), stored->bytes.size());
  return batches;
}

/// The rows of one global batch as `parts` micro-batches.
std::vector<data::MicroBatch> micro_batches_of(const at::Tensor& batch, std::int64_t parts) {
  std::vector<data::MicroBatch> all;
  const std::int64_t length = batch.size(1) - 1;
  for (const data::RowRange& rows : data::split_rows({.first = 0, .count = batch.size(0)}, parts)) {
    const at::Tensor part = batch.narrow(0, rows.first, rows.count);
    all.push_back({rows, part.narrow(1, 0, length).contiguous(), part.narrow(1, 1, length).contiguous()});
  }
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
  job.optimizer.lr = std::atof(arguments[5]);
  job.optimizer.weight_decay = std::atof(arguments[6]);
  job.optimizer.clip_norm = std::atof(arguments[7]);
  job.micro_batches = std::atoi(arguments[8]);

  const std::unique_ptr<train::Model> model = must(train::make_model(job.model, {}));
  const std::unique_ptr<train::WeightSource> weights = must(train::open_weights(*model, job.model.directory));
  const std::unique_ptr<train::Communicator> alone = must(train::Communicator::connect({}));
  train::WholePlacement placement(
      {.model = *model, .job = job, .data = *alone, .end_layer = model->layers.size()});
  must(placement.place(*weights));
  train::HeldOptimizer optimizer(job.optimizer, placement);

  const at::Tensor batches = read_batches(arguments[2]);
  const std::int64_t num_targets = batches.size(1) * (batches.size(2) - 1);
  NamedTensors out;
  at::Tensor losses = at::empty({batches.size(0)}, at::kFloat);
  at::Tensor norms = at::empty({batches.size(0)}, at::kFloat);
  for (std::int64_t step = 0; step < batches.size(0); ++step) {
    placement.begin_step();
    train::MicroBatches batches_of_step{.step = step,
                                        .num_rows = batches.size(1),
                                        .num_targets = num_targets,
                                        .parts = micro_batches_of(batches[step], job.micro_batches)};
    double loss_sum = 0.0;
    for (const train::MicroBatch& part : batches_of_step.parts) {
      const train::StepContext context = train::training_context(job, batches_of_step, part);
      loss_sum += train::accumulate(placement, *model, part, context, num_targets, c10::kCPU).item<double>();
    }
    placement.finish_gradients();
    if (step == 0) {
      for (const train::HeldTensor& held : placement.held()) {
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
  must(train::write_weights(
      *model, [&](std::size_t index) { return placement.held()[index].weight; }, arguments[4]));
  return 0;
}

}  // namespace
}  // namespace saturn

int main(int count, char** arguments) {
  if (count != 9) {
    std::fputs("usage: see the head of tests/parity/driver.cpp\n", stderr);
    return 2;
  }
  return saturn::run(arguments);
}
