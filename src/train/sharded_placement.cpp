// Sharded weights: gathered for a layer's forward and backward, gradients reduced and scattered behind it.

#include "saturn/train/sharded_placement.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "train/flat_layout.h"
#include "train/shard_exchange.h"

namespace saturn::train {

using torch::autograd::variable_list;

namespace {

/// Gives `flat` memory, or takes it away. Tensors that view it, also those that autograd keeps, stay views.
void set_memory(const at::Tensor& flat, bool present) {
  c10::StorageImpl* storage = flat.storage().unsafeGetStorageImpl();
  const auto bytes = static_cast<std::size_t>(flat.numel() * flat.element_size());
  storage->set_data_ptr_noswap(present ? storage->allocator()->allocate(bytes)
                                       : at::DataPtr(nullptr, flat.device()));
  storage->set_nbytes(present ? bytes : 0);
}

bool contains(const std::vector<ParameterPtr>& parameters, const ParameterPtr& parameter) {
  return std::find(parameters.begin(), parameters.end(), parameter) != parameters.end();
}

}  // namespace

struct ShardedPlacement::Unit {
  Unit(std::vector<ParameterPtr> parameters_of_unit, FlatLayout layout_of_unit)
      : parameters(std::move(parameters_of_unit)), layout(std::move(layout_of_unit)) {}

  std::vector<ParameterPtr> parameters;
  FlatLayout layout;
  bool trains = true;  ///< all of its parameters do, or none
  std::size_t first_layer = 0, last_layer = 0;
  int num_layers = 0;

  at::Tensor master;          ///< this rank's shard, fp32
  at::Tensor shard_gradient;  ///< likewise; zero or more micro-batches' sum
  at::Tensor flat;        ///< whole weights as the layers compute with them; without memory when let go of
  bool is_whole = false;  ///< `flat` has memory, and the weights or an exchange that brings them
  std::shared_ptr<ShardExchange::Pending> gathering;

  at::Tensor gradient;  ///< whole, fp32, from the first layer's backward to the end of the reduction
  std::vector<bool> has_gradient;  ///< by parameter
  int layers_done = 0;             ///< in this micro-batch's backward
  bool has_sum = false;            ///< `shard_gradient` holds micro-batches of this step
  std::shared_ptr<ShardExchange::Pending> reducing;
};

/// A layer as one node of the graph between layers. The layer's own graph is inside: made in forward, or in
/// backward where the layer runs again.
class ShardedPlacement::LayerNode final : public torch::autograd::Node {
 public:
  LayerNode(ShardedPlacement& placement, std::size_t layer, RunOfInput body, const at::Tensor& input)
      : placement_(placement), layer_(layer), body_(std::move(body)), input_(input.detach()) {
    input_.requires_grad_(input.requires_grad());
  }

  /// Runs the layer; returns its output outside of the inner graph.
  at::Tensor run(bool keep_graph, bool again = false) {
    const at::AutoGradMode mode(keep_graph);
    at::Tensor output = body_(input_, again);
    if (keep_graph) {
      output_ = output;
      body_ = nullptr;
    }
    return output.detach();
  }

  variable_list apply(variable_list&& gradients) override {
    SATURN_CHECK(input_.defined(), "a layer runs backward once for each forward");
    placement_.before_backward(layer_);
    const std::vector<ParameterPtr>& parameters = placement_.layer(layer_).parameters();
    variable_list asked;
    if (input_.requires_grad()) asked.push_back(input_);
    for (const ParameterPtr& parameter : parameters)
      if (parameter->trains) asked.push_back(parameter->value);
    if (!output_.defined()) run(/*keep_graph=*/true, /*again=*/true);
    variable_list given = torch::autograd::grad({output_}, asked, {gradients[0]}, /*retain_graph=*/false,
                                                /*create_graph=*/false, /*allow_unused=*/true);
    auto next = given.begin();
    at::Tensor of_input;
    if (input_.requires_grad()) of_input = std::move(*next++);
    variable_list of_parameters(parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i]->trains) of_parameters[i] = std::move(*next++);
    release_variables();
    placement_.after_backward(layer_, std::move(of_parameters));
    return {of_input};
  }

  void release_variables() override {
    body_ = nullptr;
    input_.reset();
    output_.reset();
  }

 private:
  ShardedPlacement& placement_;
  std::size_t layer_;
  RunOfInput body_;
  at::Tensor input_;
  at::Tensor output_;
};

// Layers that share a parameter are one unit, except where another stage has that parameter too: both stages
// must hold the same range of it, so it is a unit of its own. So, under a tensor group, is what its ranks all
// have whole: their slices of the rest may differ in size. What is frozen is apart from what is trained: it
// has no gradient to reduce.
ShardedPlacement::ShardedPlacement(PlacementContext context, bool reshard_after_forward)
    : Placement(context), reshard_after_forward_(reshard_after_forward) {
  const std::size_t num_layers = context_.end_layer - context_.first_layer;
  units_of_layer_.resize(num_layers);
  const auto parameters_of = [&](std::size_t i) -> const std::vector<ParameterPtr>& {
    return layer(context_.first_layer + i).parameters();
  };
  const auto is_used_elsewhere = [&](const ParameterPtr& parameter) {
    for (std::size_t i = 0; i < context_.model.layers.size(); ++i) {
      const bool is_here = i >= context_.first_layer && i < context_.end_layer;
      if (!is_here && contains(layer(i).parameters(), parameter)) return true;
    }
    return false;
  };

  // Layers that share a parameter of this stage alone get one number.
  std::vector<std::size_t> number(num_layers);
  for (std::size_t i = 0; i < num_layers; ++i) {
    number[i] = i;
    for (std::size_t other = 0; other < i; ++other) {
      const auto& theirs = parameters_of(other);
      const bool shares =
          std::any_of(parameters_of(i).begin(), parameters_of(i).end(), [&](const ParameterPtr& parameter) {
            return contains(theirs, parameter) && !is_used_elsewhere(parameter);
          });
      if (!shares || number[other] == number[i]) continue;
      const std::size_t from = std::max(number[i], number[other]), to = std::min(number[i], number[other]);
      std::replace(number.begin(), number.begin() + static_cast<std::ptrdiff_t>(i) + 1, from, to);
    }
  }

  for (std::size_t first = 0; first < num_layers; ++first) {
    if (number[first] != first) continue;
    std::vector<ParameterPtr> own, whole_on_all, own_frozen, whole_on_all_frozen, elsewhere;
    for (std::size_t i = first; i < num_layers; ++i) {
      if (number[i] != first) continue;
      for (const ParameterPtr& parameter : parameters_of(i)) {
        const bool on_all = context_.tensor.size > 1 && parameter->split.dimension < 0;
        std::vector<ParameterPtr>& kind = is_used_elsewhere(parameter) ? elsewhere
                                          : parameter->trains          ? (on_all ? whole_on_all : own)
                                                              : (on_all ? whole_on_all_frozen : own_frozen);
        if (!contains(kind, parameter)) kind.push_back(parameter);
      }
    }
    const auto users_of = [&](const std::vector<ParameterPtr>& members) {
      std::vector<std::size_t> users;
      for (std::size_t i = 0; i < num_layers; ++i) {
        const auto uses = [&](const ParameterPtr& member) { return contains(parameters_of(i), member); };
        if (std::any_of(members.begin(), members.end(), uses)) users.push_back(i);
      }
      return users;
    };
    for (std::vector<ParameterPtr>* const kind : {&own, &whole_on_all, &own_frozen, &whole_on_all_frozen}) {
      if (kind->empty()) continue;
      const std::vector<std::size_t> users = users_of(*kind);
      add_unit(std::move(*kind), users);
    }
    for (const ParameterPtr& parameter : elsewhere) {
      const std::vector<std::size_t> users = users_of({parameter});
      if (number[users.front()] == first) add_unit({parameter}, users);  // once
    }
  }
  for (const auto& units : units_of_layer_)
    most_units_of_layer_ = std::max(most_units_of_layer_, units.size());
  if (context_.data.num_ranks() > 1) exchange_ = ShardExchange::make(context_.data, context_.device);
}

void ShardedPlacement::add_unit(std::vector<ParameterPtr> members, const std::vector<std::size_t>& layers) {
  std::vector<Part> parts;
  for (const ParameterPtr& parameter : members) parts.push_back(part_of(*parameter));
  units_.push_back(
      std::make_unique<Unit>(std::move(members), FlatLayout(std::move(parts), context_.data.num_ranks())));
  Unit& unit = *units_.back();
  unit.trains = unit.parameters.front()->trains;
  unit.first_layer = context_.first_layer + layers.front();
  unit.last_layer = context_.first_layer + layers.back();
  unit.num_layers = static_cast<int>(layers.size());
  for (const std::size_t i : layers) units_of_layer_[i].push_back(&unit);
}

ShardedPlacement::~ShardedPlacement() = default;

Result<void> ShardedPlacement::place(WeightSource& source) {
  const at::TensorOptions fp32 = at::TensorOptions(at::kFloat).device(context_.device);
  const bool computes_in_bf16 = context_.job.precision == "bf16";
  for (const auto& unit : units_) {
    const FlatLayout& layout = unit->layout;
    at::Tensor on_host = at::zeros({layout.shard_elements}, at::TensorOptions(at::kFloat));
    const std::vector<FlatLayout::Slice> slices = layout.slices_of(context_.data.rank());
    for (const FlatLayout::Slice& slice : slices) {
      const Part range = range_of(layout.parts[slice.index], slice.first, slice.count);
      SATURN_TRY_VOID(
          read_part(source, *unit->parameters[slice.index], range, on_host.narrow(0, slice.at, slice.count)));
    }
    unit->master = on_host.to(context_.device);
    if (unit->trains) unit->shard_gradient = at::zeros({layout.shard_elements}, fp32);
    for (const FlatLayout::Slice& slice : slices)
      held_.push_back(
          {.parameter = unit->parameters[slice.index],
           .part = range_of(layout.parts[slice.index], slice.first, slice.count),
           .weight = unit->master.narrow(0, slice.at, slice.count),
           .gradient = unit->trains ? unit->shard_gradient.narrow(0, slice.at, slice.count) : at::Tensor(),
           .primary = is_primary_slice(*unit->parameters[slice.index])});

    if (!exchange_ && !computes_in_bf16) {
      unit->flat = unit->master;  // the one shard is the whole
      unit->is_whole = true;
    } else {
      unit->flat =
          at::empty({layout.num_elements()}, fp32.dtype(computes_in_bf16 ? at::kBFloat16 : at::kFloat));
    }
    for (std::size_t i = 0; i < unit->parameters.size(); ++i) {
      // With a version counter of its own: weights that arrive are no change in the eyes of autograd.
      at::Tensor value = layout.view_of(unit->flat, i).variable_data();
      value.requires_grad_(unit->trains);
      unit->parameters[i]->value = value;
    }
    if (!unit->is_whole) set_memory(unit->flat, false);
  }
  return {};
}

const std::vector<ShardedPlacement::Unit*>& ShardedPlacement::units_of(std::size_t layer) const {
  return units_of_layer_[layer - context_.first_layer];
}

void ShardedPlacement::begin_gathering_neighbour(std::size_t layer, int direction) {
  if (direction < 0 ? layer == context_.first_layer : layer + 1 == context_.end_layer) return;
  for (Unit* const unit : units_of(direction < 0 ? layer - 1 : layer + 1)) begin_gathering(*unit);
}

// ---- weights ----------------------------------------------------------------------------------------------

void ShardedPlacement::begin_gathering(Unit& unit) {
  if (unit.is_whole) return;
  const at::NoGradGuard no_grad;
  set_memory(unit.flat, true);
  unit.is_whole = true;
  unit.layout.shard_of(unit.flat, context_.data.rank()).copy_(unit.master);
  if (exchange_) unit.gathering = exchange_->all_gather(unit.flat);
}

void ShardedPlacement::gather(Unit& unit) {
  begin_gathering(unit);
  if (!unit.gathering) return;
  unit.gathering->wait();
  unit.gathering = nullptr;
}

void ShardedPlacement::let_go(Unit& unit) {
  if (!unit.is_whole || unit.flat.is_alias_of(unit.master)) return;
  gather(unit);  // an exchange under way still writes
  set_memory(unit.flat, false);
  unit.is_whole = false;
}

// ---- forward ----------------------------------------------------------------------------------------------

at::Tensor ShardedPlacement::run(std::size_t index, const at::Tensor& input, RunOfInput body) {
  for (Unit* const unit : units_of(index)) gather(*unit);
  begin_gathering_neighbour(index, 1);
  const auto let_go_of_finished = [&] {
    for (Unit* const unit : units_of(index))
      if (unit->last_layer == index) let_go(*unit);
  };
  at::Tensor output;
  const std::vector<ParameterPtr>& parameters = layer(index).parameters();
  const bool has_backward =
      input.requires_grad() || std::any_of(parameters.begin(), parameters.end(),
                                           [](const ParameterPtr& parameter) { return parameter->trains; });
  if (!at::GradMode::is_enabled() || !has_backward) {
    output = body(input, /*again=*/false);
    let_go_of_finished();
    return output;
  }
  const auto node = std::make_shared<LayerNode>(*this, index, std::move(body), input);
  node->set_next_edges(torch::autograd::collect_next_edges(input));
  output = node->run(/*keep_graph=*/!runs_again(context_.checkpointing, context_.model, index));
  torch::autograd::set_history(output, node);
  // Backward begins with the last two layers: what it needs at once stays.
  const bool backward_is_near = index + 2 >= context_.end_layer;
  if (reshard_after_forward_ && !backward_is_near) let_go_of_finished();
  return output;
}

at::Tensor ShardedPlacement::forward(std::size_t index, const at::Tensor& input, const StepContext& context) {
  Layer& layer = this->layer(index);
  return run(index, input, run_of(layer, context));
}

at::Tensor ShardedPlacement::loss(const at::Tensor& input, const at::Tensor& targets,
                                  const StepContext& context) {
  Head& head = *context_.model.head;
  return run(context_.end_layer - 1, input,
             [&head, targets, context](const at::Tensor& x, bool) { return head.loss(x, targets, context); });
}

// ---- backward ---------------------------------------------------------------------------------------------

void ShardedPlacement::before_backward(std::size_t index) {
  for (Unit* const unit : units_of(index)) gather(*unit);
  begin_gathering_neighbour(index, -1);
}

void ShardedPlacement::after_backward(std::size_t index, std::vector<at::Tensor> gradients) {
  const at::NoGradGuard no_grad;
  for (Unit* const unit : units_of(index))
    if (unit->trains && unit->layers_done == 0) begin_gradient(*unit);
  const std::vector<ParameterPtr>& parameters = layer(index).parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (gradients[i].defined()) add_gradient(index, parameters[i], gradients[i]);
    gradients[i].reset();
  }
  for (Unit* const unit : units_of(index)) {
    const bool uses_are_over = unit->first_layer == index;
    if (uses_are_over && (reshard_after_forward_ || is_last_backward_)) let_go(*unit);
    if (unit->trains && ++unit->layers_done == unit->num_layers) reduce(*unit);
  }
}

void ShardedPlacement::begin_gradient(Unit& unit) {
  // The sum of the micro-batch before may still be on its way out of this buffer.
  wait_for_reductions(/*leave=*/unit.reducing ? 0 : most_units_of_layer_);
  // Gaps between parts hold anything: no one reads their sums. Among one rank the sum is the whole, and grows
  // in place.
  unit.gradient =
      exchange_ ? at::empty({unit.layout.num_elements()}, unit.master.options()) : unit.shard_gradient;
  unit.has_gradient.assign(unit.parameters.size(), !exchange_ && unit.has_sum);
}

void ShardedPlacement::add_gradient(std::size_t index, const ParameterPtr& parameter,
                                    const at::Tensor& gradient) {
  for (Unit* const unit : units_of(index)) {
    const auto found = std::find(unit->parameters.begin(), unit->parameters.end(), parameter);
    if (found == unit->parameters.end()) continue;
    const auto position = static_cast<std::size_t>(found - unit->parameters.begin());
    at::Tensor sum = unit->layout.view_of(unit->gradient, position);
    if (unit->has_gradient[position] || gradient.is_sparse()) {
      if (!unit->has_gradient[position]) sum.zero_();
      sum.add_(gradient.to(at::kFloat));
    } else {
      sum.copy_(gradient);
    }
    unit->has_gradient[position] = true;
  }
}

void ShardedPlacement::reduce(Unit& unit) {
  for (bool has : unit.has_gradient) SATURN_CHECK(has, "every parameter of a model takes part in its loss");
  unit.layers_done = 0;
  if (exchange_) {
    unit.reducing = exchange_->reduce_scatter(unit.gradient, unit.shard_gradient, /*add=*/unit.has_sum);
    reducing_.push_back(&unit);
    wait_for_reductions(/*leave=*/most_units_of_layer_);
  } else {
    unit.gradient.reset();
  }
  unit.has_sum = true;
}

void ShardedPlacement::wait_for_reductions(std::size_t leave) {
  while (reducing_.size() > leave) {
    Unit& unit = *reducing_.front();
    unit.reducing->wait();
    unit.reducing = nullptr;
    unit.gradient.reset();
    reducing_.pop_front();
  }
}

// ---- the step ---------------------------------------------------------------------------------------------

void ShardedPlacement::begin_step() {
  is_last_backward_ = false;
  for (const auto& unit : units_) unit->has_sum = false;
}

void ShardedPlacement::begin_evaluation() {}

void ShardedPlacement::expect_last_backward() {
  is_last_backward_ = true;
}

void ShardedPlacement::finish_gradients() {
  wait_for_reductions(/*leave=*/0);
}

void ShardedPlacement::weights_changed() {
  for (const auto& unit : units_) let_go(*unit);
}

CommunicationTimes ShardedPlacement::communication() const {
  return exchange_ ? exchange_->times() : CommunicationTimes{};
}

}  // namespace saturn::train
