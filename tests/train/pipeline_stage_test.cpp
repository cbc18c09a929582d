// Stages at work, a thread each: what they compute, how long they wait, and what they say of bad knobs.
//
// Shapes: B rows, T tokens of a row.

#include "saturn/train/pipeline_stage.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "saturn/base/random.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/staged_technique.h"
#include "saturn/train/whole_placement.h"
#include "tests/techniques/tiny_model.h"
#include "tests/train/group_of_threads.h"

namespace saturn::testing {

using batch::PipelineOrder;
using train::Communicator;
using train::MicroBatch;
using train::MicroBatches;
using train::StepContext;
using Kind = batch::PipelineOperation::Kind;

namespace {

constexpr std::int64_t kVocabulary = 64;
constexpr std::int64_t kTokens = 10;

std::unique_ptr<train::Model> six_layers() {
  return make_tiny_model({.vocabulary = kVocabulary, .width = 16, .num_blocks = 4});
}

MicroBatches batches_of(const std::vector<std::int64_t>& rows) {
  MicroBatches batches;
  std::int64_t first = 0;
  for (const std::int64_t count : rows) {
    at::Tensor tokens = at::empty({count, kTokens + 1}, at::kLong);
    for (std::int64_t i = 0; i < tokens.numel(); ++i)
      tokens.mutable_data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(
          mix_key(7, static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(i)) % kVocabulary);
    batches.parts.push_back({.rows = {first, count},
                             .inputs = tokens.narrow(1, 0, kTokens).contiguous(),
                             .targets = tokens.narrow(1, 1, kTokens).contiguous()});
    first += count;
  }
  batches.num_rows = first;
  batches.num_targets = first * kTokens;
  return batches;
}

struct Gradients {
  double loss = 0.0;
  std::map<std::string, at::Tensor> by_name;  ///< of every copy the same
};

/// One accumulation over `num_stages` stages cut as evenly as layers go.
Gradients run_stages(int num_stages, PipelineOrder order, const MicroBatches& batches) {
  Gradients all;
  std::mutex mutex;
  const auto errors = run_ranks(num_stages, [&](Communicator& world) {
    const auto model = six_layers();
    const auto num_layers = static_cast<int>(model->layers.size());
    std::vector<int> cuts;
    for (int k = 1; k < num_stages; ++k) cuts.push_back(k * num_layers / num_stages);
    const batch::LayerRange layers = batch::layers_of_stage(cuts, world.rank(), num_layers);
    const batch::Job job{.precision = "fp32", .seed = 3};
    const auto alone = *Communicator::connect({});
    train::WholePlacement placement({.model = *model,
                                     .job = job,
                                     .data = *alone,
                                     .first_layer = static_cast<std::size_t>(layers.first),
                                     .end_layer = static_cast<std::size_t>(layers.end)});
    train::RandomWeights weights(job.seed);
    if (!placement.place(weights).ok()) throw std::runtime_error("not placed");
    train::PipelineStage stage(placement, *model, world, layers);
    if (num_stages > 1 && (stage.is_first() || stage.is_last()))
      stage.set_shared({{model->head->parameters().front(), {0, num_stages - 1}}});
    placement.begin_step();
    const at::Tensor loss = stage.accumulate(
        batches,
        [&](const MicroBatch& batch) {
          return StepContext{.seed = job.seed,
                             .first_row = batch.rows.first,
                             .loss_weight = 1.0 / static_cast<double>(batches.num_targets)};
        },
        order);
    placement.finish_gradients();
    stage.sum_shared_gradients();
    const std::scoped_lock lock(mutex);
    all.loss += loss.item<double>();
    for (const train::HeldTensor& held : placement.held()) {
      const auto [place, is_new] = all.by_name.emplace(held.parameter->name, held.gradient.clone());
      if (!is_new && !at::equal(place->second, held.gradient))
        throw std::runtime_error("two copies of " + held.parameter->name + " differ");
    }
  });
  for (const std::string& error : errors) REQUIRE(error == "");
  return all;
}

/// Passes by stage, kind and micro-batch.
using Pass = std::tuple<int, Kind, int>;

/// The slot in which each pass runs where every pass takes one slot and messages are free.
std::map<Pass, int> slots_of(const std::vector<batch::PipelineOperations>& lists) {
  const auto last = static_cast<int>(lists.size()) - 1;
  std::map<Pass, int> slots;
  std::vector<std::size_t> done(lists.size(), 0);
  std::vector<int> free_at(lists.size(), 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (int stage = 0; stage <= last; ++stage) {
      const auto k = static_cast<std::size_t>(stage);
      for (; done[k] < lists[k].size(); ++done[k], moved = true) {
        const batch::PipelineOperation& one = lists[k][done[k]];
        if (one.kind == Kind::exchange) continue;
        const bool forward = one.kind == Kind::forward;
        int slot = free_at[k];
        if (forward ? stage > 0 : stage < last) {
          const auto before = slots.find({stage + (forward ? -1 : 1), one.kind, one.micro_batch});
          if (before == slots.end()) break;
          slot = std::max(slot, before->second + 1);
        }
        slots[{stage, one.kind, one.micro_batch}] = slot;
        free_at[k] = slot + 1;
      }
    }
  }
  return slots;
}

/// Holds every pass until all passes of its slot have begun: a stage that waits for another one where the
/// schedule does not say so is found however fast or slow the machine is.
class Slots {
 public:
  explicit Slots(std::map<Pass, int> slots) : slots_(std::move(slots)) {
    for (const auto& [pass, slot] : slots_) ++missing_[slot];
  }

  void begin(const Pass& pass) {
    std::unique_lock lock(mutex_);
    const int slot = slots_.at(pass);
    in_order_ = in_order_ && slot >= now_;
    now_ = std::max(now_, slot);
    --missing_[slot];
    all_there_.notify_all();
    met_ = all_there_.wait_for(lock, std::chrono::seconds(30), [&] {
      return !met_ || missing_[slot] == 0;
    }) && met_;
  }

  /// Every pass met those of its slot, after those of all slots before.
  bool kept() const {
    return met_ && in_order_ &&
           std::all_of(missing_.begin(), missing_.end(), [](const auto& one) { return one.second == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_there_;
  std::map<Pass, int> slots_;
  std::map<int, int> missing_;  ///< of each slot: passes that have not begun
  int now_ = 0;
  bool met_ = true;
  bool in_order_ = true;
};

/// Set for the step that is watched; one of `stage`.
struct Watch {
  int stage = 0;
  Slots* slots = nullptr;
};

at::Tensor pass_in_slots(const at::Tensor& x, const at::Tensor& weight, const Watch& watch,
                         const StepContext& context) {
  const auto micro_batch = static_cast<int>(context.first_row);  // of one row each
  if (watch.slots) watch.slots->begin({watch.stage, Kind::forward, micro_batch});
  const at::Tensor y = x * weight;
  if (watch.slots)
    y.register_hook([watch, micro_batch](const at::Tensor& gradient) {
      watch.slots->begin({watch.stage, Kind::backward, micro_batch});
      return gradient;
    });
  return y;
}

class WatchedLayer final : public train::Layer {
 public:
  explicit WatchedLayer(const Watch& watch)
      : Layer("watched"),
        watch_(watch),
        weight_(declare({.name = "watched.weight", .shape = {1}, .initial = {}})) {}
  at::Tensor forward(const at::Tensor& x, const StepContext& context) override {
    return pass_in_slots(x, weight_->value, watch_, context);
  }

 private:
  const Watch& watch_;
  train::ParameterPtr weight_;
};

class WatchedHead final : public train::Head {
 public:
  explicit WatchedHead(const Watch& watch)
      : Head("head"), watch_(watch), weight_(declare({.name = "head.weight", .shape = {1}, .initial = {}})) {}
  at::Tensor forward(const at::Tensor& x, const StepContext& context) override {
    return pass_in_slots(x, weight_->value, watch_, context);
  }
  at::Tensor loss(const at::Tensor& x, const at::Tensor&, const StepContext& context) override {
    return forward(x, context).sum();
  }

 private:
  const Watch& watch_;
  train::ParameterPtr weight_;
};

/// One step of `num_stages` stages of a layer each, in the slots of 1F1B. Returns the timelines.
std::vector<std::vector<train::TimedOperation>> run_in_slots(int num_stages, int num_micro_batches,
                                                             Slots& slots) {
  std::vector<std::vector<train::TimedOperation>> timelines(static_cast<std::size_t>(num_stages));
  const auto errors = run_ranks(
      num_stages,
      [&](Communicator& world) {
        Watch watch{.stage = world.rank()};
        train::Model model;
        for (int i = 0; i + 1 < num_stages; ++i)
          model.layers.push_back(std::make_unique<WatchedLayer>(watch));
        auto head = std::make_unique<WatchedHead>(watch);
        model.head = head.get();
        model.layers.push_back(std::move(head));
        const batch::Job job{.precision = "fp32"};
        const auto alone = *Communicator::connect({});
        const auto mine = static_cast<std::size_t>(world.rank());
        train::WholePlacement placement(
            {.model = model, .job = job, .data = *alone, .first_layer = mine, .end_layer = mine + 1});
        train::RandomWeights weights(1);
        if (!placement.place(weights).ok()) throw std::runtime_error("not placed");
        train::PipelineStage stage(placement, model, world, {world.rank(), world.rank() + 1});
        MicroBatches batches;
        for (int i = 0; i < num_micro_batches; ++i)
          batches.parts.push_back(
              {.rows = {i, 1}, .inputs = at::ones({1, 64}), .targets = at::ones({1, 64})});
        for (Slots* const watched : {static_cast<Slots*>(nullptr), &slots}) {  // first they meet each other
          watch.slots = watched;
          placement.begin_step();
          world.barrier();
          stage.accumulate(
              batches, [](const MicroBatch& batch) { return StepContext{.first_row = batch.rows.first}; },
              PipelineOrder::one_forward_one_backward);
        }
        timelines[mine] = stage.timeline();
      },
      /*timeout_s=*/120.0);
  for (const std::string& error : errors) REQUIRE(error == "");
  return timelines;
}

/// What `prepare` of the pipeline says on `num_ranks` ranks with these knobs; "" where it is content.
std::string prepared(int num_ranks, Json knobs, int batch_size = 8) {
  std::string said;
  std::mutex mutex;
  const auto errors = run_ranks(num_ranks, [&](Communicator& world) {
    batch::Job job{.precision = "fp32", .seed = 3};
    job.batch_size = batch_size;
    job.optimizer.lr = 1e-3;
    const batch::Configuration configuration{.technique = "pipeline", .num_ranks = num_ranks, .knobs = knobs};
    const MicroBatches one = batches_of({1});
    std::unique_ptr<train::Technique> technique;
    for (const train::TechniqueEntry& entry : train::technique_entries())
      if (configuration.technique == entry.name)
        technique = entry.make({.job = job,
                                .configuration = configuration,
                                .model = six_layers(),
                                .communicator = world,
                                .example = {one.parts[0].inputs, one.parts[0].targets}});
    train::RandomWeights weights(job.seed);
    const auto result = technique->prepare(weights);
    const std::scoped_lock lock(mutex);
    if (!result.ok() && world.rank() == 0) said = result.faults().front().what;
    if (result.ok() && num_ranks > 1 &&
        technique->tuned_knobs().at("cuts").size() + 1 != static_cast<std::size_t>(num_ranks))
      throw std::runtime_error("tuned knobs have no cuts");
  });
  for (const std::string& error : errors) REQUIRE(error == "");
  return said;
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/pipeline_stage: gradients are those of one stage whatever the stages and the order") {
    for (const std::vector<std::int64_t>& rows :
         {std::vector<std::int64_t>{3}, std::vector<std::int64_t>{3, 2, 2, 1, 1, 1}}) {
      const MicroBatches batches = batches_of(rows);
      const Gradients want = run_stages(1, PipelineOrder::gpipe, batches);
      REQUIRE(want.by_name.size() == 17);
      for (const PipelineOrder order : {PipelineOrder::one_forward_one_backward, PipelineOrder::gpipe})
        for (const int num_stages : {2, 3, 6}) {
          CAPTURE(num_stages);
          const Gradients got = run_stages(num_stages, order, batches);
          CHECK(got.loss == doctest::Approx(want.loss).epsilon(1e-6));
          REQUIRE(got.by_name.size() == want.by_name.size());
          for (const auto& [name, gradient] : want.by_name) {
            CAPTURE(name);
            const double difference = (gradient - got.by_name.at(name)).norm().item<double>();
            CHECK(difference < 1e-5 * gradient.norm().item<double>());
          }
        }
    }
  }

  TEST_CASE("train/pipeline_stage: stages compute side by side in the slots that leave the ideal bubble") {
    for (const auto& [num_stages, num_micro_batches] :
         std::vector<std::pair<int, int>>{{2, 1}, {2, 8}, {4, 8}, {8, 16}}) {
      CAPTURE(num_stages);
      const auto lists =
          pipeline_operations(PipelineOrder::one_forward_one_backward, num_stages, num_micro_batches);
      const auto planned = slots_of(lists);
      int num_slots = 0;
      for (const auto& [pass, slot] : planned) num_slots = std::max(num_slots, slot + 1);
      const double bubble = 1.0 - static_cast<double>(planned.size()) / (num_stages * num_slots);
      CHECK(bubble == doctest::Approx(batch::ideal_bubble(num_stages, num_micro_batches)));

      Slots slots(planned);
      const auto timelines = run_in_slots(num_stages, num_micro_batches, slots);
      CHECK(slots.kept());
      for (std::size_t k = 0; k < timelines.size(); ++k) {
        std::vector<std::pair<Kind, int>> want, got;
        for (const batch::PipelineOperation& one : lists[k])
          if (one.kind != Kind::exchange) want.emplace_back(one.kind, one.micro_batch);
        double last_s = 0.0;
        for (const train::TimedOperation& one : timelines[k]) {
          got.emplace_back(one.kind, one.micro_batch);
          CHECK(one.start_s >= last_s);
          CHECK(one.end_s >= one.start_s);
          last_s = one.end_s;
        }
        const bool as_written = got == want;
        CHECK(as_written);
      }
    }
  }

  TEST_CASE("train/pipeline_stage: a stage whose neighbour stays away gives up in time") {
    const auto start = std::chrono::steady_clock::now();
    const MicroBatches batches = batches_of({2, 2});
    const auto errors = run_ranks(2, [&](Communicator& world) {
      world.barrier();
      world.set_timeout(1.0);
      if (world.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::seconds(3));
        throw std::runtime_error("was away");
      }
      at::Tensor nothing = at::empty({4});
      post(world, {{.peer = 1, .tag = 0, .tensor = nothing}})[0].wait();
    });
    CHECK(errors[0].find("Timed out") != std::string::npos);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  }

  TEST_CASE("train/staged_technique: knobs that cannot be are told with what was read") {
    CHECK(prepared(2, {{"cuts", {3}}}) == "");
    CHECK(prepared(2, Json::object()) == "");
    CHECK(prepared(1, Json::object()) == "");
    CHECK(prepared(2, {{"cuts", {0}}}) == "cuts = [0]");
    CHECK(prepared(2, {{"cuts", {6}}}) == "cuts = [6]");
    CHECK(prepared(3, {{"cuts", {4, 2}}}) == "cuts = [4,2]");
    CHECK(prepared(2, {{"order", "zigzag"}}) == "order = \"zigzag\"");
    CHECK(prepared(2, {{"micro_batches", 0}}) == "micro_batches = 0");
    CHECK(prepared(2, {{"micro_batches", 9}}) ==
          "9 micro-batches are more than the 8 rows that a replica has of a batch of 8");
    CHECK(prepared(7, Json::object()) == "7 stages are more than the model's 6 layers");
  }
}

}  // namespace saturn::testing
