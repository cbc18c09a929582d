// A model split over a group of ranks, here threads of one process: the same loss and gradients as whole.

#include "saturn/train/tensor_group.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>

#include "saturn/base/check.h"
#include "saturn/batch/model_spec.h"
#include "saturn/train/model.h"
#include "saturn/train/ops.h"
#include "saturn/train/placement.h"
#include "tests/support/torch_doctest.h"
#include "tests/train/group_of_threads.h"

namespace saturn::train {
namespace {

/// What `body` gives on each of `size` ranks.
template <class T>
std::vector<T> on_ranks(int size, const std::function<T(Communicator&)>& body) {
  std::vector<T> results(static_cast<std::size_t>(size));
  const std::vector<std::string> errors = testing::run_ranks(size, [&](Communicator& communicator) {
    results[static_cast<std::size_t>(communicator.rank())] = body(communicator);
  });
  for (const std::string& error : errors) REQUIRE(error == "");
  return results;
}

struct Case {
  std::string label;
  double dropout = 0.0;
  bool tied = true;
  std::int64_t tokens = 8;
  std::int64_t vocabulary = 64;
  std::int64_t feed_forward = 96;
  bool bf16 = false;
};

std::unique_ptr<Model> small_gpt2(const Case& one) {
  batch::ModelSpec spec;
  spec.family = "gpt2";
  spec.vocabulary = static_cast<int>(one.vocabulary);
  spec.sizes = {{"layers", 2},
                {"heads", 12},
                {"width", 48},
                {"feed_forward", one.feed_forward},
                {"vocabulary", 0},
                {"longest_sequence", 16},
                {"layer_norm_epsilon", 1e-5},
                {"initializer_range", 0.2},
                {"tied_head", one.tied}};
  return std::move(*make_model(spec, {.dropout = one.dropout}));
}

/// Of one rank: its loss, and the gradient of each of its parameters.
struct Outcome {
  double loss = 0.0;
  double loss_without_training = 0.0;
  std::map<std::string, at::Tensor> gradients;
};

Outcome outcome_of(const Case& one, const TensorGroup* group) {
  const std::unique_ptr<Model> model = small_gpt2(one);
  const TensorSlice slice = group == nullptr ? TensorSlice{} : group->slice();
  RandomWeights weights(3);
  std::map<std::string, at::Tensor> leaves;
  for (const ParameterPtr& parameter : model->parameters()) {
    const Part part = slice_part(*parameter, slice);
    at::Tensor leaf = at::empty(part.sizes);
    SATURN_CHECK(read_part(weights, *parameter, part, leaf).ok(), "random weights can be read");
    leaf.requires_grad_(true);
    leaves[parameter->name] = leaf;
    parameter->value = one.bf16 ? leaf.to(at::kBFloat16) : leaf;
  }
  const at::Tensor tokens = (at::arange(3 * (one.tokens + 1)) * 29 % one.vocabulary).view({3, -1});
  const at::Tensor inputs = tokens.narrow(1, 0, one.tokens).contiguous();
  const at::Tensor targets = tokens.narrow(1, 1, one.tokens).contiguous();
  const StepContext context{.seed = 5, .step = 2, .first_row = 4, .loss_weight = 0.04, .tensor = group};
  const at::Tensor loss = train::loss(*model, inputs, targets, context);
  torch::autograd::backward({loss}, {});
  Outcome outcome{.loss = loss.item<double>()};
  for (const auto& [name, leaf] : leaves) outcome.gradients[name] = leaf.grad().to_dense();
  const at::NoGradGuard no_grad;
  outcome.loss_without_training =
      train::loss(*model, inputs, targets, {.training = false, .tensor = group}).item<double>();
  return outcome;
}

/// Where `box` lies in the whole parameter.
at::Tensor box_of(at::Tensor whole, const Box& box) {
  for (std::size_t i = 0; i < box.sizes.size(); ++i)
    whole = whole.narrow(static_cast<std::int64_t>(i), box.offsets[i], box.sizes[i]);
  return whole;
}

/// The whole gradients from the ranks' slices; what every rank holds is summed.
std::map<std::string, at::Tensor> joined(const Model& model, const std::vector<Outcome>& outcomes) {
  std::map<std::string, at::Tensor> whole;
  for (const ParameterPtr& parameter : model.parameters()) {
    at::Tensor sum = at::zeros(parameter->shape);
    for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
      const TensorSlice slice{static_cast<int>(rank), static_cast<int>(outcomes.size())};
      for (const Box& box : slice_part(*parameter, slice).boxes)
        box_of(sum, box) += box.of(outcomes[rank].gradients.at(parameter->name).contiguous());
    }
    whole[parameter->name] = sum;
  }
  return whole;
}

double relative(double got, double want) {
  return std::abs(got - want) / std::abs(want);
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/tensor_group: slices cover each parameter once and differ by at most one") {
    const Parameter parameter{.name = "p", .shape = {5, 33}, .split = {.dimension = 1, .num_blocks = 3}};
    for (int size : {1, 2, 3, 4, 11}) {
      CAPTURE(size);
      at::Tensor count = at::zeros(parameter.shape);
      for (int rank = 0; rank < size; ++rank) {
        for (const Box& box : slice_part(parameter, {rank, size}).boxes) {
          CHECK(box.sizes[0] == 5);
          if (size > 1) CHECK(box.sizes[1] - 11 / size <= 1);
          box_of(count, box) += 1;
        }
      }
      CHECK(at::equal(count, at::ones(parameter.shape)));
    }
  }

  TEST_CASE("train/tensor_group: a slice and ranges of it are read as they lie in the whole parameter") {
    RandomWeights weights(7);
    for (const Split& split :
         {Split{}, Split{.dimension = 0}, Split{.dimension = 1}, Split{.dimension = 1, .num_blocks = 3},
          Split{.dimension = 0, .num_blocks = 2}}) {
      const Parameter parameter{
          .name = "p", .shape = {10, 9}, .initial = {Initial::Kind::normal, 1.0}, .split = split};
      at::Tensor whole = at::empty(parameter.shape);
      REQUIRE(weights.read(parameter, 0, whole.view({-1})).ok());
      for (int rank = 0; rank < 3; ++rank) {
        const Part slice = slice_part(parameter, {rank, 3});
        const std::int64_t half = slice.num_elements() / 2;
        for (const Part& part :
             {slice, range_of(slice, 0, half), range_of(slice, half, slice.num_elements() - half)}) {
          at::Tensor held = at::empty(part.sizes);
          REQUIRE(read_part(weights, parameter, part, held).ok());
          for (const Box& box : part.boxes) CHECK(at::equal(box.of(held), box_of(whole, box)));
        }
      }
    }
  }

  TEST_CASE("train/tensor_group: gpt2 split over ranks has the loss and the gradients of gpt2 whole") {
    const std::vector<Case> cases = {
        {.label = "plain"},
        {.label = "head of its own and dropout", .dropout = 0.2, .tied = false},
        {.label = "nothing divides", .dropout = 0.1, .tokens = 7, .vocabulary = 61, .feed_forward = 97},
        {.label = "fewer tokens than ranks", .dropout = 0.1, .tokens = 2},
        {.label = "bf16", .tokens = 7, .bf16 = true},
    };
    for (const Case& one : cases) {
      CAPTURE(one.label);
      const double tolerance = one.bf16 ? 0.05 : 1e-5;
      const Outcome want = outcome_of(one, nullptr);
      for (int size : {2, 3, 4}) {
        CAPTURE(size);
        const auto got = on_ranks<Outcome>(size, [&](Communicator& communicator) {
          TensorGroup group(communicator);
          group.set_sequence_length(one.tokens);
          return outcome_of(one, &group);
        });
        for (const Outcome& of_rank : got) {
          CHECK(relative(of_rank.loss, want.loss) < tolerance);
          CHECK(relative(of_rank.loss_without_training, want.loss_without_training) < tolerance);
        }
        for (const auto& [name, gradient] : joined(*small_gpt2(one), got)) {
          CAPTURE(name);
          const at::Tensor& wanted = want.gradients.at(name);
          CHECK((gradient - wanted).norm().item<double>() < tolerance * wanted.norm().item<double>());
        }
      }
    }
  }

  TEST_CASE("train/tensor_group: tensors are summed in one exchange whatever their layout") {
    const auto got = on_ranks<at::Tensor>(3, [](Communicator& communicator) {
      const TensorGroup group(communicator);
      at::Tensor whole = at::arange(12, at::kFloat).view({3, 4}) + communicator.rank();
      std::vector<at::Tensor> parts = {whole.narrow(1, 0, 2), whole.narrow(1, 3, 1)};
      group.sum(parts);
      return whole;
    });
    const at::Tensor once = at::arange(12, at::kFloat).view({3, 4});
    for (int rank = 0; rank < 3; ++rank) {
      const at::Tensor& whole = got[static_cast<std::size_t>(rank)];
      CHECK(at::equal(whole.narrow(1, 0, 2), 3 * once.narrow(1, 0, 2) + 3));
      CHECK(at::equal(whole.select(1, 3), 3 * once.select(1, 3) + 3));
      CHECK(at::equal(whole.select(1, 2), once.select(1, 2) + rank));  // not asked for
    }
  }
}

}  // namespace saturn::train
