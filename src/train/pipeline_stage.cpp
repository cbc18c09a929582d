// A stage's operations, one after the other.

#include "saturn/train/pipeline_stage.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

using batch::PipelineOperation;
using batch::PipelineTransfer;
using Kind = PipelineOperation::Kind;
using What = PipelineTransfer::What;

// Tags beyond those of micro-batches.
constexpr int kShapeTag = 1 << 20;
constexpr int kSharedTag = 1 << 21;

constexpr std::int64_t kMostDimensions = 8;
constexpr std::int64_t kShapeSize = 2 + kMostDimensions;  // type, dimensions of a row, their sizes
/// Gradients that may be on their way at once: each keeps its memory until the stage before has it.
constexpr std::size_t kMostGradientsSent = 2;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

PipelineStage::PipelineStage(Placement& placement, const Model& model, Communicator& stages,
                             batch::LayerRange layers)
    : placement_(placement), model_(model), stages_(stages), layers_(layers) {
  SATURN_CHECK(layers.first < layers.end && (layers.first == 0) == is_first() &&
                   (layers.end == static_cast<int>(model.layers.size())) == is_last(),
               "stages have all layers in their order");
}

at::Tensor PipelineStage::run_layers(const MicroBatch& batch, const at::Tensor& input,
                                     const StepContext& context) {
  const c10::Device device = placement_.device();
  at::Tensor activation = is_first() ? batch.inputs.to(device) : input;
  const int end = is_last() ? layers_.end - 1 : layers_.end;
  for (int i = layers_.first; i < end; ++i)
    activation = placement_.forward(static_cast<std::size_t>(i), activation, context);
  return is_last() ? placement_.loss(activation, batch.targets.to(device), context) : activation;
}

void PipelineStage::forward(const MicroBatch& batch, Passage& passage, const StepContext& context) {
  if (!is_first()) passage.input.requires_grad_(true);
  passage.output = run_layers(batch, passage.input, context);
  if (is_last()) loss_sum_ += passage.output.detach().to(at::kDouble);
}

void PipelineStage::backward(Passage& passage, bool last) {
  if (last) placement_.expect_last_backward();
  if (is_last())
    torch::autograd::backward({passage.output}, {});
  else if (passage.output.requires_grad())  // not where the first stage trains nothing
    torch::autograd::backward({passage.output}, {passage.gradient});
  // The gradient came, so the output has arrived where it came from.
  passage.sending_output.wait();
  passage.gradient = is_first() ? at::Tensor() : passage.input.grad().contiguous();
  passage.input.reset();
  passage.output.reset();
}

Message PipelineStage::message_of(const PipelineTransfer& transfer, const MicroBatches& batches,
                                  Passage& passage) {
  const bool to_next = (transfer.what == What::output) == transfer.send;
  Message message{
      .send = transfer.send, .peer = stages_.rank() + (to_next ? 1 : -1), .tag = transfer.micro_batch};
  if (transfer.send) {
    if (transfer.what == What::output) {
      message.tensor = passage.output.detach().contiguous();
      announce_output(message.tensor);
    } else {
      message.tensor = std::exchange(passage.gradient, {});
    }
  } else if (transfer.what == What::gradient) {
    passage.gradient = at::empty(passage.output.sizes(), passage.output.options().requires_grad(false));
    message.tensor = passage.gradient;
  } else {
    learn_input();
    std::vector<std::int64_t> sizes = input_sizes_;
    sizes.insert(sizes.begin(), batches.parts[static_cast<std::size_t>(transfer.micro_batch)].rows.count);
    passage.input = at::empty(sizes, at::TensorOptions(placement_.device()).dtype(input_type_));
    message.tensor = passage.input;
  }
  return message;
}

void PipelineStage::announce_output(const at::Tensor& output) {
  if (output_announced_) return;
  output_announced_ = true;
  SATURN_CHECK(output.dim() >= 1 && output.dim() <= kMostDimensions, "stages send tensors of rows");
  std::vector<std::int64_t> shape = {static_cast<std::int64_t>(output.scalar_type()), output.dim() - 1};
  for (std::int64_t i = 1; i < output.dim(); ++i) shape.push_back(output.size(i));
  shape.resize(kShapeSize);
  const at::Tensor values = at::tensor(shape, at::kLong).to(message_device());
  post(stages_, {{.send = true, .peer = stages_.rank() + 1, .tag = kShapeTag, .tensor = values}})[0].wait();
}

void PipelineStage::learn_input() {
  if (input_known_) return;
  at::Tensor values = at::empty({kShapeSize}, at::TensorOptions(message_device()).dtype(at::kLong));
  post(stages_, {{.peer = stages_.rank() - 1, .tag = kShapeTag, .tensor = values}})[0].wait();
  values = values.cpu();
  const auto* shape = values.const_data_ptr<std::int64_t>();
  input_type_ = static_cast<at::ScalarType>(shape[0]);
  input_sizes_.assign(shape + 2, shape + 2 + shape[1]);
  input_known_ = true;
}

c10::Device PipelineStage::message_device() const {
  return stages_.uses_nccl() ? placement_.device() : c10::Device(c10::kCPU);
}

void PipelineStage::exchange(const std::vector<PipelineTransfer>& transfers, const MicroBatches& batches,
                             std::vector<Passage>& passages) {
  std::vector<Message> messages;
  std::vector<PostedMessage*> into;
  for (const PipelineTransfer& transfer : transfers) {
    Passage& passage = passages[static_cast<std::size_t>(transfer.micro_batch)];
    PostedMessage& place = place_of(transfer, passage);
    if (place.is_posted()) continue;  // early
    messages.push_back(message_of(transfer, batches, passage));
    into.push_back(&place);
  }
  std::vector<PostedMessage> posted = post(stages_, std::move(messages));
  for (std::size_t i = 0; i < posted.size(); ++i) *into[i] = std::move(posted[i]);
  for (const PipelineTransfer& transfer : transfers) {
    PostedMessage& place = place_of(transfer, passages[static_cast<std::size_t>(transfer.micro_batch)]);
    if (!transfer.send) {
      place.wait();
    } else if (transfer.what == What::gradient) {
      sending_gradients_.push_back(std::move(place));
      if (sending_gradients_.size() > kMostGradientsSent) {
        sending_gradients_.front().wait();
        sending_gradients_.pop_front();
      }
    }
  }
}

PostedMessage& PipelineStage::place_of(const PipelineTransfer& transfer, Passage& passage) {
  if (transfer.what == What::output) return transfer.send ? passage.sending_output : passage.receiving_input;
  return transfer.send ? passage.sending_gradient : passage.receiving_gradient;
}

void PipelineStage::post_early(const std::vector<PipelineTransfer>& transfers, const MicroBatches& batches,
                               std::vector<Passage>& passages) {
  // NCCL wants both sides' calls in the sequence of the lists; its receives wait on the device anyway.
  if (stages_.uses_nccl()) return;
  for (const PipelineTransfer& transfer : transfers) {
    Passage& passage = passages[static_cast<std::size_t>(transfer.micro_batch)];
    const bool shape_known = transfer.what == What::output ? input_known_ : passage.output.defined();
    if (transfer.send || !shape_known) continue;
    place_of(transfer, passage) = std::move(post(stages_, {message_of(transfer, batches, passage)})[0]);
  }
}

at::Tensor PipelineStage::accumulate(const MicroBatches& batches, const ContextOf& context_of,
                                     batch::PipelineOrder order) {
  const auto num_micro_batches = static_cast<int>(batches.parts.size());
  const batch::PipelineOperations operations =
      batch::pipeline_operations(order, stages_.rank(), stages_.num_ranks(), num_micro_batches);
  std::vector<Passage> passages(batches.parts.size());
  loss_sum_ = at::zeros({}, at::TensorOptions(placement_.device()).dtype(at::kDouble));
  timeline_.clear();
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const PipelineOperation& operation = operations[i];
    if (operation.kind == Kind::exchange) {
      exchange(operation.transfers, batches, passages);
      continue;
    }
    if (i + 1 < operations.size() && operations[i + 1].kind == Kind::exchange)
      post_early(operations[i + 1].transfers, batches, passages);
    const MicroBatch& batch = batches.parts[static_cast<std::size_t>(operation.micro_batch)];
    Passage& passage = passages[static_cast<std::size_t>(operation.micro_batch)];
    const double start_s = now_s();
    if (operation.kind == Kind::forward)
      forward(batch, passage, context_of(batch));
    else
      backward(passage, /*last=*/operation.micro_batch + 1 == num_micro_batches);
    timeline_.push_back({operation.kind, operation.micro_batch, start_s, now_s()});
  }
  while (!sending_gradients_.empty()) {
    sending_gradients_.front().wait();
    sending_gradients_.pop_front();
  }
  return loss_sum_;
}

EvaluationSums PipelineStage::evaluate(const MicroBatches& batches, const ContextOf& context_of) {
  std::vector<Passage> passages(batches.parts.size());
  EvaluationSums sums;
  for (std::size_t i = 0; i < passages.size(); ++i) {
    const MicroBatch& batch = batches.parts[i];
    const auto micro_batch = static_cast<int>(i);
    if (!is_first()) exchange({{What::output, false, micro_batch}}, batches, passages);
    StepContext context = context_of(batch);
    if (batch.rows.counts) context.tally = &sums.tally;
    passages[i].output = run_layers(batch, passages[i].input, context);
    passages[i].input.reset();
    if (!is_last()) {
      if (i > 0) {
        passages[i - 1].sending_output.wait();
        passages[i - 1] = {};
      }
      exchange({{What::output, true, micro_batch}}, batches, passages);
    } else if (batch.rows.counts) {
      sums.loss_sum += passages[i].output.item<double>();
      sums.num_targets += batch.targets.numel();
    }
  }
  if (!passages.empty()) passages.back().sending_output.wait();
  return sums;
}

void PipelineStage::sum_shared_gradients() {
  int tag = kSharedTag;
  for (const Shared& shared : shared_) {
    for (const HeldTensor& held : placement_.held()) {
      if (held.parameter != shared.parameter) continue;
      // Everyone sends to everyone: holders are two, the first stage and the last.
      std::vector<Message> messages;
      std::vector<at::Tensor> parts;  // of the holders in their order, so that the sum is the same on each
      for (const int stage : shared.stages) {
        if (stage == stages_.rank()) {
          parts.push_back(held.gradient);
          continue;
        }
        parts.push_back(at::empty_like(held.gradient));
        messages.push_back({.send = true, .peer = stage, .tag = tag, .tensor = held.gradient});
        messages.push_back({.peer = stage, .tag = tag, .tensor = parts.back()});
      }
      std::vector<PostedMessage> posted = post(stages_, std::move(messages));
      for (PostedMessage& one : posted) one.wait();
      for (std::size_t i = 1; i < parts.size(); ++i) parts[0].add_(parts[i]);
      if (!parts[0].is_same(held.gradient)) held.gradient.copy_(parts[0]);
      ++tag;
    }
  }
}

}  // namespace saturn::train
