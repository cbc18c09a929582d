// Timing of single layers.

#include "saturn/train/layer_costs.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <typeindex>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/memory_model.h"
#include "saturn/batch/time_model.h"
#include "saturn/train/gpu.h"
#include "saturn/train/memory.h"

namespace saturn::train {
namespace {

constexpr int kMostRuns = 7;
constexpr int kLeastRuns = 3;
constexpr double kEnough_s = 0.5;  // of one layer, after the least runs

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void synchronize(c10::Device device) {
  if (device.is_cuda()) gpu::synchronize(device);
}

std::int64_t allocated_bytes(c10::Device device) {
  return device.is_cuda() ? gpu::allocated_bytes(device) : cpu_memory().now_bytes;
}

/// A layer's parameters, allocated for as long as this lives.
class Placed {
 public:
  Placed(const Layer& layer, c10::ScalarType type, c10::Device device) : parameters_(layer.parameters()) {
    for (const ParameterPtr& parameter : parameters_)
      // Values do not matter for time, but for being ordinary numbers.
      parameter->value = at::full(parameter->shape, 0.01, at::TensorOptions(device).dtype(type))
                             .requires_grad_(parameter->trains);
  }
  ~Placed() {
    for (const ParameterPtr& parameter : parameters_) parameter->value = at::Tensor();
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

 private:
  std::vector<ParameterPtr> parameters_;
};

/// What makes two layers cost the same.
struct Likeness {
  std::type_index type;
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::int64_t> input;
  std::vector<bool> trains = {};

  bool operator==(const Likeness&) const = default;
};

struct Measured {
  batch::LayerCost cost;
  at::Tensor output;
};

Measured measure(Layer& layer, Head* head, const at::Tensor& input, const at::Tensor& targets,
                 const batch::Job& job, c10::Device device) {
  const c10::ScalarType type = job.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  const Placed placed(layer, type, device);
  const StepContext context{.seed = job.seed, .loss_weight = 1.0 / static_cast<double>(targets.numel())};
  Measured measured;
  std::vector<double> times_s;
  const double begin_s = now_s();
  while (static_cast<int>(times_s.size()) < kMostRuns &&
         (static_cast<int>(times_s.size()) < kLeastRuns || now_s() - begin_s < kEnough_s)) {
    at::Tensor x = input.detach();
    if (x.is_floating_point()) x.requires_grad_(true);
    const std::int64_t before_bytes = allocated_bytes(device);
    const double start_s = now_s();
    at::Tensor y = head != nullptr ? head->loss(x, targets, context) : layer.forward(x, context);
    synchronize(device);
    const double middle_s = now_s();
    measured.cost.kept_bytes = std::max<std::int64_t>(0, allocated_bytes(device) - before_bytes);
    const at::Tensor gradient = head != nullptr ? at::Tensor() : at::ones_like(y);
    const double again_s = now_s();
    if (y.requires_grad()) torch::autograd::backward({y}, {gradient});
    synchronize(device);
    times_s.push_back(middle_s - start_s + now_s() - again_s);
    for (const ParameterPtr& parameter : layer.parameters()) parameter->value.mutable_grad() = at::Tensor();
    measured.output = y.detach();
  }
  times_s.erase(times_s.begin());  // warm-up
  std::nth_element(times_s.begin(), times_s.begin() + static_cast<std::ptrdiff_t>(times_s.size() / 2),
                   times_s.end());
  measured.cost.time_s = times_s[times_s.size() / 2];
  return measured;
}

}  // namespace

std::vector<batch::LayerCost> measure_layers(Model& model, const batch::Job& job,
                                             const data::Samples& example, std::int64_t num_rows,
                                             c10::Device device) {
  const auto rows_of = [&](const at::Tensor& one) {
    std::vector<std::int64_t> repeats(static_cast<std::size_t>(one.dim()), 1);
    repeats[0] = num_rows;
    return one.narrow(0, 0, 1).repeat(repeats).to(device);
  };
  const batch::Rates rates = batch::rates_of(device.is_cuda() ? "gpu" : "cpu", job.precision);
  const batch::StateBytes state = batch::state_bytes_per_parameter(job);
  at::Tensor activation = rows_of(example.inputs);
  const at::Tensor targets = rows_of(example.targets);

  std::vector<batch::LayerCost> costs;
  std::vector<Likeness> kinds;
  std::vector<std::size_t> first_of_kind;  // layer
  std::vector<at::Tensor> outputs;         // of each kind
  for (const auto& layer : model.layers) {
    Likeness likeness{.type = typeid(*layer), .shapes = {}, .input = activation.sizes().vec()};
    for (const ParameterPtr& parameter : layer->parameters()) {
      likeness.shapes.push_back(parameter->shape);
      likeness.trains.push_back(parameter->trains);
    }
    const auto same = std::find(kinds.begin(), kinds.end(), likeness);
    if (same != kinds.end()) {
      // The output of a layer like this one is at hand in `outputs`: its shape is all that matters.
      const auto index = static_cast<std::size_t>(same - kinds.begin());
      costs.push_back(costs[first_of_kind[index]]);
      activation = outputs[index];
      continue;
    }
    kinds.push_back(likeness);
    first_of_kind.push_back(costs.size());
    const bool is_head = layer.get() == model.head;
    const Measured measured =
        measure(*layer, is_head ? model.head : nullptr, activation, targets, job, device);
    costs.push_back(measured.cost);
    batch::LayerCost& cost = costs.back();
    for (const ParameterPtr& parameter : layer->parameters())
      cost.state_bytes += (parameter->trains ? state.all() : state.held()) * parameter->num_elements();
    outputs.push_back(measured.output);
    if (is_head) break;
    cost.send_s =
        2.0 * (rates.collective_s + static_cast<double>(measured.output.nbytes()) / rates.link_bytes);
    activation = measured.output;
  }
  return costs;
}

std::int64_t memory_limit_bytes(c10::Device device) {
  if (!device.is_cuda()) return cpu_memory().limit_bytes;
  // What the caching allocator cuts badly is lost.
  return static_cast<std::int64_t>(0.9 * static_cast<double>(gpu::memory(device).limit_bytes));
}

}  // namespace saturn::train
