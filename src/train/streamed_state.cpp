// Where the state of a streamed model lies: which slices are resident, the tier's layout, and reading and
// writing it for checkpoints.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "background_thread.h"
#include "copier.h"
#include "saturn/base/check.h"
#include "saturn/base/log.h"
#include "saturn/base/units.h"
#include "saturn/batch/batch.h"
#include "saturn/train/memory.h"
#include "saturn/train/streamed.h"
#include "slow_tier.h"

namespace saturn::train {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kTensorAlignment = 64;
// Of a device's memory, left free when slices are made resident after what the first step took.
constexpr double kReserve = 0.05;

std::int64_t aligned(std::int64_t offset, std::int64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace

StreamedModel::StreamedModel(Model& model, const batch::Job& job, c10::Device device, std::string directory,
                             std::optional<std::int64_t> resident)
    : model_(model),
      job_(job),
      device_(device),
      directory_(std::move(directory)),
      wanted_resident_(resident),
      tuned_(resident.has_value()),
      computes_in_bf16_(job.precision == "bf16") {
  find_slices();
}

StreamedModel::~StreamedModel() = default;

void StreamedModel::find_slices() {
  for (const ParameterPtr& parameter : model_.parameters()) held_.push_back({.parameter = parameter});
  for (const auto& layer : model_.layers) {
    Slice slice{.layer = layer.get()};
    for (const ParameterPtr& parameter : layer->parameters()) {
      const auto same = [&](const Held& held) { return held.parameter == parameter; };
      const auto index =
          static_cast<std::size_t>(std::find_if(held_.begin(), held_.end(), same) - held_.begin());
      const auto used = [&](const Use& use) { return use.held == index; };
      if (std::any_of(slice.uses.begin(), slice.uses.end(), used)) continue;  // twice in one layer
      const bool first = std::none_of(slices_.begin(), slices_.end(), [&](const Slice& before) {
        return std::any_of(before.uses.begin(), before.uses.end(), used);
      });
      slice.uses.push_back({.held = index, .completes = first});
      if (first) {
        slice.owned.push_back(index);
        held_[index].slice = slices_.size();
      } else {
        for (Slice& before : slices_)
          for (Use& use : before.uses)
            if (use.held == index) use.begins = false;
      }
    }
    slices_.push_back(std::move(slice));
  }
}

std::vector<std::size_t> StreamedModel::trained_of(const Slice& slice) const {
  std::vector<std::size_t> trained;
  for (const std::size_t index : slice.owned)
    if (held_[index].parameter->trains) trained.push_back(index);
  return trained;
}

std::size_t StreamedModel::lowest_trained() const {
  for (std::size_t i = 0; i < slices_.size(); ++i)
    for (const Use& use : slices_[i].uses)
      if (held_[use.held].parameter->trains) return i;
  return slices_.size();
}

/// Slices whose parameters are theirs alone in the order of forward, whose next use is soonest after an
/// update, then those with shared ones, which often are the largest.
std::vector<std::size_t> StreamedModel::order_of_residence() const {
  std::vector<std::size_t> order, sharing;
  for (std::size_t i = 0; i < slices_.size(); ++i) {
    if (slices_[i].owned.empty()) continue;
    const bool alone = std::all_of(slices_[i].uses.begin(), slices_[i].uses.end(),
                                   [](const Use& use) { return use.begins && use.completes; });
    (alone ? order : sharing).push_back(i);
  }
  order.insert(order.end(), sharing.begin(), sharing.end());
  return order;
}

std::int64_t StreamedModel::num_resident() const {
  return std::count_if(slices_.begin(), slices_.end(), [](const Slice& slice) { return slice.resident; });
}

Result<void> StreamedModel::place(WeightSource& source) {
  const std::vector<std::size_t> order = order_of_residence();
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(0, wanted_resident_.value_or(0)));
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i) slices_[order[i]].resident = true;
  SATURN_TRY_VOID(place_in_tier());
  copier_ = std::make_unique<Copier>(device_);
  // On CPU slots the cores are those that compute: the update takes one of them, in the time that a fetch of
  // a mapped page leaves. Beside a GPU it takes all.
  updating_ = std::make_unique<BackgroundThread>(device_.is_cpu() ? 1 : 0);
  for (Slice& slice : slices_) {
    for (std::size_t index : slice.owned) {
      Held& held = held_[index];
      if (slice.resident) place_on_device(held);
      const bool direct = held.weight.is_cpu();
      const at::Tensor whole = direct ? held.weight : at::empty(held.parameter->shape, at::kFloat);
      SATURN_TRY_VOID(source.read(*held.parameter, /*first_element=*/0, whole.view({-1})));
      if (!direct) held.weight.copy_(whole);
      refresh_compute(held);
      if (!slice.resident) tier_->written(held.weight);
    }
    make_optimizer(slice);
  }
  return {};
}

/// Each slice begins on a page, and what is read together lies together: copies to compute with, weights,
/// gradients, then the moments.
Result<void> StreamedModel::place_in_tier() {
  const std::size_t num_roles = Optimizer::roles(job_.optimizer).size();
  struct Part {
    at::Tensor* tensor;
    const Parameter* parameter;
    at::ScalarType type;
    std::int64_t offset;
  };
  std::vector<Part> parts;
  std::int64_t end = 0;
  const auto add = [&](at::Tensor& tensor, const Held& held, at::ScalarType type) {
    end = aligned(end, kTensorAlignment);
    parts.push_back({&tensor, held.parameter.get(), type, end});
    end += held.parameter->num_elements() * static_cast<std::int64_t>(c10::elementSize(type));
  };
  for (const Slice& slice : slices_) {
    if (slice.resident) continue;
    end = aligned(end, kPage);
    for (std::size_t index : slice.owned)
      if (computes_in_bf16_) add(held_[index].compute, held_[index], at::kBFloat16);
    for (std::size_t index : slice.owned) add(held_[index].weight, held_[index], at::kFloat);
    const std::vector<std::size_t> trained = trained_of(slice);
    for (std::size_t index : trained) add(held_[index].gradient, held_[index], at::kFloat);
    for (std::size_t index : trained) held_[index].state.resize(num_roles);
    for (std::size_t role = 0; role < num_roles; ++role)
      for (std::size_t index : trained) add(held_[index].state[role], held_[index], at::kFloat);
  }
  tier_bytes_ = end;
  SATURN_TRY(tier_, SlowTier::make(device_, directory_, end));
  for (const Part& part : parts) *part.tensor = tier_->tensor(part.offset, part.parameter->shape, part.type);
  for (Held& held : held_)
    if (!slices_[held.slice].resident && !computes_in_bf16_) held.compute = held.weight;
  return {};
}

/// On the device, as the tier has it; or with an optimiser that starts at zero.
void StreamedModel::place_on_device(Held& held) {
  const at::TensorOptions fp32 = at::TensorOptions(device_).dtype(at::kFloat);
  const auto bring = [&](const at::Tensor& from) {
    at::Tensor to =
        from.defined() ? at::empty(held.parameter->shape, fp32) : at::zeros(held.parameter->shape, fp32);
    if (from.defined()) to.copy_(from);
    return to;
  };
  if (held.parameter->trains) held.state.resize(Optimizer::roles(job_.optimizer).size());
  held.weight = bring(held.weight);
  for (at::Tensor& state : held.state) state = bring(state);
  held.compute = computes_in_bf16_ ? held.weight.to(at::kBFloat16) : held.weight;
  held.gradient = at::Tensor();
}

void StreamedModel::make_optimizer(Slice& slice) {
  const std::vector<std::size_t> trained = trained_of(slice);
  if (trained.empty()) return;
  std::vector<OptimizedTensor> tensors;
  for (std::size_t index : trained) {
    const Held& held = held_[index];
    tensors.push_back({.weight = held.weight, .decays = held.parameter->decays, .state = held.state});
  }
  slice.optimizer.emplace(job_.optimizer, tensors);
}

void StreamedModel::refresh_compute(Held& held) {
  if (computes_in_bf16_) held.compute.copy_(held.weight);
}

/// Makes as many slices resident as the first step, which had none, has left room for.
void StreamedModel::tune_residence() {
  tuned_ = true;
  const MemoryUse use = device_memory(device_);
  if (use.limit_bytes == 0) return;
  settle();
  std::int64_t room =
      static_cast<std::int64_t>((1.0 - kReserve) * static_cast<double>(use.limit_bytes)) - use.peak_bytes;
  // Gradients on their way out may have left the device early in that step, and may leave it late in others.
  std::int64_t leaving = 0;
  for (const Slice& slice : slices_) {
    std::int64_t bytes = 0;
    for (const Use& use : slice.uses)
      if (held_[use.held].parameter->trains) bytes += 4 * held_[use.held].parameter->num_elements();
    leaving = std::max(leaving, bytes);
  }
  room -= leaving;
  const at::NoGradGuard no_grad;
  for (const std::size_t index : order_of_residence()) {
    Slice& slice = slices_[index];
    const std::int64_t held_bytes = computes_in_bf16_ ? 6 : 4;
    // And the gradient from backward to the update, and the optimiser's state.
    const std::int64_t trained_bytes =
        held_bytes + 4 + 4 * static_cast<std::int64_t>(Optimizer::roles(job_.optimizer).size());
    std::int64_t bytes = 0;
    for (std::size_t owned : slice.owned) {
      const Parameter& parameter = *held_[owned].parameter;
      bytes += parameter.num_elements() * (parameter.trains ? trained_bytes : held_bytes);
    }
    if (bytes > room) break;
    room -= bytes;
    for (std::size_t owned : slice.owned) place_on_device(held_[owned]);
    slice.resident = true;
    make_optimizer(slice);
  }
  log_info("offload: " + std::to_string(num_resident()) + " of " + std::to_string(slices_.size()) +
           " slices stay on the device; the first step took " +
           format_bytes(static_cast<double>(use.peak_bytes)) + " of " +
           format_bytes(static_cast<double>(use.limit_bytes)));
}

Result<void> StreamedModel::for_each_state(const StateVisitor& visit) {
  settle();
  const std::vector<std::string> roles = Optimizer::roles(job_.optimizer);
  for (const Held& held : held_) {
    const bool in_tier = !slices_[held.slice].resident;
    StateTensor state{.name = held.parameter->name,
                      .role = "weight",
                      .shape = held.parameter->shape,
                      .offsets = std::vector<std::int64_t>(held.parameter->shape.size(), 0),
                      .piece = held.weight,
                      .in_slow_memory = in_tier};
    SATURN_TRY_VOID(visit(state));
    if (in_tier) tier_->written(state.piece);  // where the visit loaded it
    for (std::size_t role = 0; held.parameter->trains && role < roles.size(); ++role) {
      state.role = roles[role];
      state.piece = held.state[role];
      SATURN_TRY_VOID(visit(state));
      if (in_tier) tier_->written(state.piece);
    }
  }
  return {};
}

void StreamedModel::state_loaded() {
  const at::NoGradGuard no_grad;
  for (Held& held : held_) refresh_compute(held);
}

at::Tensor StreamedModel::gather_weight(std::size_t index) {
  const Held& held = held_[index];
  if (const Future& updated = slices_[held.slice].updated; updated.valid()) updated.get();
  return held.weight.cpu();
}

}  // namespace saturn::train
