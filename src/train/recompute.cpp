// A block as one node of the autograd graph, which makes its own small graph in backward.

#include "saturn/train/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "saturn/base/check.h"
#include "saturn/train/knobs.h"

namespace saturn::train {
namespace {

using torch::autograd::variable_list;

class Recompute final : public torch::autograd::Node {
 public:
  Recompute(RunOfInput run, const at::Tensor& input, variable_list weights)
      : run_(std::move(run)),
        input_(input.detach()),
        input_requires_grad_(input.requires_grad()),
        weights_(std::move(weights)) {}

  variable_list apply(variable_list&& gradients) override {
    SATURN_CHECK(run_, "a block runs backward once for each forward");
    const at::AutoGradMode with_graph(true);
    const at::Tensor input = input_.detach();
    variable_list asked = weights_;
    if (input_requires_grad_) {
      input.requires_grad_(true);
      asked.insert(asked.begin(), input);
    }
    const at::Tensor output = run_(input, /*again=*/true);
    variable_list given = torch::autograd::grad({output}, asked, {gradients[0]}, /*retain_graph=*/false,
                                                /*create_graph=*/false, /*allow_unused=*/true);
    if (!input_requires_grad_) given.insert(given.begin(), at::Tensor());
    return given;
  }

  void release_variables() override {
    run_ = nullptr;
    input_.reset();
    weights_.clear();
  }

 private:
  RunOfInput run_;
  at::Tensor input_;
  bool input_requires_grad_;
  variable_list weights_;
};

}  // namespace

Result<Checkpointing> checkpointing_of(const Json& knobs) {
  SATURN_TRY(const std::size_t choice, choice_of(knobs, "checkpointing", {"none", "selective", "full"}));
  return static_cast<Checkpointing>(choice);
}

bool runs_again(Checkpointing checkpointing, const Model& model, std::size_t layer) {
  const bool is_block = layer > 0 && layer + 1 < model.layers.size();
  return is_block && (checkpointing == Checkpointing::full ||
                      (checkpointing == Checkpointing::selective && layer % 2 == 1));
}

RunOfInput run_of(Layer& layer, const StepContext& context) {
  return [&layer, context](const at::Tensor& input, bool again) {
    StepContext here = context;
    here.again = again;
    return layer.forward(input, here);
  };
}

at::Tensor recomputed(RunOfInput run, const at::Tensor& input, const std::vector<at::Tensor>& weights) {
  variable_list trained;
  for (const at::Tensor& weight : weights)
    if (weight.requires_grad()) trained.push_back(weight);
  if (!at::GradMode::is_enabled() || (trained.empty() && !input.requires_grad()))
    return run(input, /*again=*/false);
  at::Tensor output;
  {
    const at::NoGradGuard no_graph;
    output = run(input, /*again=*/false).detach();
  }
  const auto node = std::make_shared<Recompute>(std::move(run), input, trained);
  variable_list sources = std::move(trained);
  sources.insert(sources.begin(), input);
  node->set_next_edges(torch::autograd::collect_next_edges(sources));
  torch::autograd::set_history(output, node);
  return output;
}

}  // namespace saturn::train
