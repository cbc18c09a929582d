// Steps of a streamed model: which slice is on the device when, and what goes which way meanwhile.
// Where its state lies is in streamed_state.cpp.

#include "saturn/train/streamed.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <cmath>

#include "background_thread.h"
#include "copier.h"
#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "slow_tier.h"

namespace saturn::train {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// ---- Visits

/// Brings the visited slice and the one after it to the device, and lets go of all others.
void StreamedModel::enter(const Visits& visits) {
  const std::size_t now = visits.order[visits.at];
  const bool has_next = visits.at + 1 < visits.order.size();
  const std::size_t next = has_next ? visits.order[visits.at + 1] : now;
  for (std::size_t i = 0; i < slices_.size(); ++i)
    if (i != now && i != next) release(slices_[i]);

  Slice& here = slices_[now];
  fetch_weights(here);
  const bool backward = visits.at >= visits.first_backward;
  if (backward) fetch_sums(here);
  if (has_next) {
    fetch_weights(slices_[next]);
    // A sum that this slice will add to is not yet worth fetching.
    if (visits.at + 1 >= visits.first_backward && !share_parameters(here, slices_[next]))
      fetch_sums(slices_[next]);
  }
  if (here.weights) copier_->wait_on_device(here.weights);
  if (backward && here.sums) copier_->wait_on_device(here.sums);
  for (const Use& use : here.uses) held_[use.held].parameter->value = use.leaf;
}

void StreamedModel::leave_all() {
  for (Slice& slice : slices_) release(slice);
}

bool StreamedModel::share_parameters(const Slice& one, const Slice& other) {
  for (const Use& a : one.uses)
    for (const Use& b : other.uses)
      if (a.held == b.held) return true;
  return false;
}

void StreamedModel::fetch_weights(Slice& slice) {
  if (slice.here) return;
  std::vector<CopyPair> pairs;
  std::vector<Future> after;
  for (Use& use : slice.uses) {
    const Held& held = held_[use.held];
    const Slice& owner = slices_[held.slice];
    if (owner.resident) {
      use.leaf = held.compute.detach().requires_grad_(held.parameter->trains);
      continue;
    }
    use.leaf = at::empty(held.parameter->shape, held.compute.options().device(device_))
                   .requires_grad_(held.parameter->trains);
    tier_->will_read(held.compute);
    pairs.push_back({use.leaf.detach(), held.compute});
    if (owner.updated.valid()) after.push_back(owner.updated);
  }
  if (!pairs.empty()) slice.weights = copier_->fetch(std::move(pairs), std::move(after));
  slice.here = true;
}

void StreamedModel::fetch_sums(Slice& slice) {
  if (slice.has_sums) return;
  std::vector<CopyPair> pairs;
  std::vector<Future> after;
  for (Use& use : slice.uses) {
    const Held& held = held_[use.held];
    if (use.begins || !held.parameter->trains) continue;
    if (slices_[held.slice].resident) {
      use.gradient = held.gradient;
    } else {
      use.gradient = at::empty(held.parameter->shape, at::TensorOptions(device_).dtype(at::kFloat));
      pairs.push_back({use.gradient, held.gradient});
      after.push_back(held.gradient_copy->done());
    }
  }
  if (!pairs.empty()) slice.sums = copier_->fetch(std::move(pairs), std::move(after));
  slice.has_sums = true;
}

void StreamedModel::release(Slice& slice) {
  if (!slice.here) return;
  for (Use& use : slice.uses) {
    at::Tensor& value = held_[use.held].parameter->value;
    if (value.defined() && value.is_same(use.leaf)) value = at::Tensor();
    use.leaf = use.gradient = at::Tensor();
  }
  slice.weights = slice.sums = nullptr;
  slice.here = slice.has_sums = false;
}

// ---- One step

Result<StepStats> StreamedModel::step(const MicroBatches& batches, double learning_rate) {
  SATURN_TRY_VOID(tier_->check());
  const std::size_t head = slices_.size() - 1;
  Visits visits;
  for (std::size_t i = 0; i < slices_.size(); ++i) visits.order.push_back(i);
  // Backward ends where nothing below is trained.
  const std::size_t lowest = lowest_trained();
  for (std::size_t i = head; i-- > lowest;) visits.order.push_back(i);
  visits.first_backward = head;

  std::vector<StepContext> contexts;
  std::vector<std::vector<at::Tensor>> inputs(slices_.size());  // of each slice, by micro-batch
  for (const MicroBatch& batch : batches.parts) {
    const double weight = batch.rows.counts ? 1.0 / static_cast<double>(batches.num_targets) : 0.0;
    contexts.push_back({.seed = job_.seed,
                        .step = batches.step,
                        .first_row = batch.rows.first,
                        .training = true,
                        .loss_weight = weight});
    inputs[0].push_back(batch.inputs.to(device_));
  }
  const std::size_t num_parts = batches.parts.size();

  for (; visits.at < head; ++visits.at) {
    enter(visits);
    const at::NoGradGuard no_grad;
    for (std::size_t part = 0; part < num_parts; ++part)
      inputs[visits.at + 1].push_back(
          slices_[visits.at].layer->forward(inputs[visits.at][part], contexts[part]));
  }

  at::Tensor loss_sum = at::zeros({}, at::TensorOptions(device_).dtype(at::kDouble));
  std::vector<at::Tensor> gradients(num_parts);  // of the outputs of the slice that comes next
  norms_.assign(held_.size(), at::Tensor());
  for (; visits.at < visits.order.size(); ++visits.at) {
    enter(visits);
    const std::size_t index = visits.order[visits.at];
    Slice& slice = slices_[index];
    if (!computes_in_bf16_)
      for (Use& use : slice.uses) use.leaf.mutable_grad() = use.gradient;
    for (std::size_t part = 0; part < num_parts; ++part) {
      at::Tensor input = inputs[index][part].detach();
      inputs[index][part] = at::Tensor();
      if (input.is_floating_point()) input.requires_grad_(index > lowest);
      if (index == head) {
        const at::Tensor loss =
            model_.head->loss(input, batches.parts[part].targets.to(device_), contexts[part]);
        torch::autograd::backward({loss}, {});
        loss_sum += loss.detach().to(at::kDouble) * static_cast<double>(batches.num_targets);
      } else {
        const at::Tensor output = slice.layer->forward(input, contexts[part]);
        if (output.requires_grad()) torch::autograd::backward({output}, {std::move(gradients[part])});
      }
      gradients[part] = input.grad();
      collect_gradients(slice);
    }
    send_gradients(slice);
  }
  leave_all();

  std::vector<at::Tensor> norms;
  for (std::size_t i = 0; i < held_.size(); ++i) {
    if (!held_[i].parameter->trains) continue;
    SATURN_CHECK(norms_[i].defined(), "every parameter of a model takes part in its loss");
    norms.push_back(norms_[i]);
  }
  StepStats stats{.loss_sum = loss_sum.item<double>()};
  // Per tensor and then together, as train::global_norm does.
  stats.gradient_norm = at::linalg_vector_norm(at::stack(norms).to(at::kDouble)).item<double>();
  stats.applied = std::isfinite(stats.gradient_norm);
  if (stats.applied)
    update(batches.step, learning_rate, clip_scale(stats.gradient_norm, job_.optimizer.clip_norm));
  for (Held& held : held_)
    if (slices_[held.slice].resident) held.gradient = at::Tensor();
  ++num_steps_;
  if (!tuned_) tune_residence();
  return stats;
}

/// Takes what autograd has just computed. In fp32 it adds up where autograd keeps it.
void StreamedModel::collect_gradients(Slice& slice) {
  for (Use& use : slice.uses) {
    at::Tensor& computed = use.leaf.mutable_grad();
    if (!computed.defined()) continue;
    if (!computes_in_bf16_) {
      use.gradient = computed;
      continue;
    }
    const at::Tensor wide = computed.to(at::kFloat);
    if (use.gradient.defined())
      use.gradient.add_(wide);
    else
      use.gradient = wide;
    computed = at::Tensor();
  }
}

/// Gradients of a slice that has been visited go to the tier; of those that are whole the norm is taken.
void StreamedModel::send_gradients(Slice& slice) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> whole;
  std::vector<CopyPair> pairs;
  for (const Use& use : slice.uses) {
    if (!held_[use.held].parameter->trains) continue;
    SATURN_CHECK(use.gradient.defined() && !use.gradient.is_sparse(),
                 "every parameter of a layer gets a gradient, and a sparse one only after a dense one");
    if (use.completes) whole.push_back(use.gradient);
    Held& held = held_[use.held];
    if (slices_[held.slice].resident)
      held.gradient = use.gradient;
    else
      pairs.push_back({held.gradient, use.gradient});
  }
  if (!whole.empty()) {
    const std::vector<at::Tensor> norms = at::_foreach_norm(whole);
    std::size_t next = 0;
    for (const Use& use : slice.uses)
      if (use.completes && held_[use.held].parameter->trains) norms_[use.held] = norms[next++];
  }
  if (!pairs.empty()) {
    std::vector<at::Tensor> written;
    for (const CopyPair& pair : pairs) written.push_back(pair.to);
    const CopyPtr copy = copier_->write_back(std::move(pairs), [this, written = std::move(written)] {
      for (const at::Tensor& part : written) tier_->written(part);
    });
    for (const Use& use : slice.uses) held_[use.held].gradient_copy = copy;
    sent_.push_back(copy);
  }
  for (Use& use : slice.uses) {
    use.leaf.mutable_grad() = at::Tensor();
    use.gradient = at::Tensor();
  }
  // While the next slice is computed, the gradients of one are still on the device, and no more.
  for (; sent_.size() > 1; sent_.pop_front()) copier_->wait_on_host(sent_.front()->done());
}

/// Resident slices at once, the others beside the next forward.
void StreamedModel::update(std::int64_t step, double learning_rate, double gradient_scale) {
  for (Slice& slice : slices_) {
    if (!slice.optimizer) continue;
    if (!slice.resident) {
      slice.updated = updating_->submit([this, &slice, step, learning_rate, gradient_scale] {
        for (std::size_t index : trained_of(slice)) held_[index].gradient_copy->done().get();
        const double start_s = now_s();
        update_slice(slice, step, learning_rate, gradient_scale);
        for (std::size_t index : trained_of(slice)) {
          const Held& held = held_[index];
          for (const at::Tensor& state : held.state) tier_->written(state);
          tier_->written(held.weight);
          if (computes_in_bf16_) tier_->written(held.compute);
        }
        update_s_ += now_s() - start_s;
      });
    } else {
      update_slice(slice, step, learning_rate, gradient_scale);
    }
  }
  const Copier::Times times = copier_->times();
  const double busy_s = times.copy_s + update_s_.load();
  const double num_steps = static_cast<double>(num_steps_ + 1);
  measured_ = {{"copy_s", times.copy_s / num_steps}, {"update_s", update_s_.load() / num_steps}};
  if (device_.is_cpu()) measured_["disk_bytes"] = static_cast<double>(tier_bytes_);
  if (busy_s > 0.0) measured_["hidden_copy_share"] = std::max(0.0, 1.0 - times.waited_s / busy_s);
}

void StreamedModel::update_slice(Slice& slice, std::int64_t step, double learning_rate,
                                 double gradient_scale) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  const std::vector<std::size_t> trained = trained_of(slice);
  for (std::size_t index : trained) gradients.push_back(held_[index].gradient);
  slice.optimizer->step(gradients, step, learning_rate, gradient_scale);
  for (std::size_t index : trained) refresh_compute(held_[index]);
}

/// Waits until the tier is as the last step left it.
void StreamedModel::settle() {
  for (; !sent_.empty(); sent_.pop_front()) sent_.front()->done().get();
  for (const Slice& slice : slices_)
    if (slice.updated.valid()) slice.updated.get();
}

// ---- Evaluation

Result<EvaluationSums> StreamedModel::evaluate(const MicroBatches& batches) {
  SATURN_TRY_VOID(tier_->check());
  const at::NoGradGuard no_grad;
  Visits visits;
  for (std::size_t i = 0; i < slices_.size(); ++i) visits.order.push_back(i);
  visits.first_backward = slices_.size();
  std::vector<const MicroBatch*> parts;
  std::vector<at::Tensor> activations;
  for (const MicroBatch& batch : batches.parts) {
    if (!batch.rows.counts) continue;
    parts.push_back(&batch);
    activations.push_back(batch.inputs.to(device_));
  }
  EvaluationSums sums;
  for (; visits.at < slices_.size(); ++visits.at) {
    enter(visits);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      const StepContext context{
          .seed = job_.seed, .first_row = parts[part]->rows.first, .training = false, .tally = &sums.tally};
      if (visits.at + 1 < slices_.size()) {
        activations[part] = slices_[visits.at].layer->forward(activations[part], context);
        continue;
      }
      const at::Tensor targets = parts[part]->targets.to(device_);
      sums.loss_sum += model_.head->loss(activations[part], targets, context).item<double>();
      sums.num_targets += targets.numel();
    }
  }
  leave_all();
  return sums;
}

}  // namespace saturn::train
