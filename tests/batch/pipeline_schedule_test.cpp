// Operation lists of pipelines: that they fit each other for every size, what they keep, how long they take.

#include "saturn/batch/pipeline_schedule.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "saturn/base/random.h"

namespace saturn::testing {

using batch::PipelineMessages;
using batch::PipelineOperation;
using batch::PipelineOperations;
using batch::PipelineOrder;
using Kind = batch::PipelineOperation::Kind;

namespace {

constexpr PipelineOrder kOrders[] = {PipelineOrder::one_forward_one_backward, PipelineOrder::gpipe};

batch::PipelineCosts equal_stages(double message_s = 0.0) {
  return {.compute_s = [](int, Kind kind, int) { return kind == Kind::forward ? 1.0 : 2.0; },
          .message_s = message_s};
}

std::string fault_of(const std::vector<PipelineOperations>& lists) {
  const auto played = replay(lists, equal_stages(), PipelineMessages::rendezvous);
  return played.ok() ? "" : played.faults().front().what;
}

}  // namespace

TEST_SUITE("batch") {
  TEST_CASE(
      "batch/pipeline_schedule: lists of all stages fit each other whatever the sizes and the waiting") {
    for (const PipelineOrder order : kOrders)
      for (int stages = 1; stages <= 9; ++stages)
        for (int micro_batches = 1; micro_batches <= 20; ++micro_batches) {
          CAPTURE(name_of(order));
          CAPTURE(stages);
          CAPTURE(micro_batches);
          const auto lists = pipeline_operations(order, stages, micro_batches);
          for (const auto messages : {PipelineMessages::rendezvous, PipelineMessages::eager}) {
            const auto played = replay(lists, equal_stages(), messages);
            REQUIRE(played.ok());
            for (int k = 0; k < stages; ++k) {
              const bool in_turns = order == PipelineOrder::one_forward_one_backward;
              CHECK(played->most_kept[static_cast<std::size_t>(k)] ==
                    (in_turns ? std::min(stages - k, micro_batches) : micro_batches));
              CHECK(played->busy_s[static_cast<std::size_t>(k)] == doctest::Approx(3.0 * micro_batches));
            }
          }
        }
  }

  TEST_CASE("batch/pipeline_schedule: equal stages and free messages leave the ideal bubble") {
    for (const PipelineOrder order : kOrders)
      for (int stages : {1, 2, 4, 8})
        for (int micro_batches : {1, 3, 8, 32}) {
          const auto lists = pipeline_operations(order, stages, micro_batches);
          const auto played = replay(lists, equal_stages(), PipelineMessages::eager);
          CHECK(played->bubble() == doctest::Approx(batch::ideal_bubble(stages, micro_batches)));
        }
    CHECK(batch::ideal_bubble(4, 12) == doctest::Approx(0.2));
  }

  TEST_CASE("batch/pipeline_schedule: messages that take time and stages that differ make the span longer") {
    const auto lists = pipeline_operations(PipelineOrder::one_forward_one_backward, 3, 6);
    const double free_s = replay(lists, equal_stages(), PipelineMessages::eager)->span_s;
    const double slow_s = replay(lists, equal_stages(0.1), PipelineMessages::eager)->span_s;
    const double strict_s = replay(lists, equal_stages(0.1), PipelineMessages::rendezvous)->span_s;
    CHECK(free_s == doctest::Approx((6 + 2) * 3.0));
    CHECK(slow_s > free_s);
    CHECK(strict_s >= slow_s);

    batch::PipelineCosts uneven = equal_stages();
    uneven.compute_s = [](int stage, Kind, int) { return stage == 1 ? 2.0 : 1.0; };
    // The middle stage computes without a pause between its first input and its last gradient.
    CHECK(replay(lists, uneven, PipelineMessages::eager)->span_s == doctest::Approx(1.0 + 6 * 4.0 + 1.0));
  }

  TEST_CASE("batch/pipeline_schedule: gradients add up in the same order under every schedule") {
    for (const PipelineOrder order : kOrders)
      for (int stage = 0; stage < 4; ++stage) {
        int expected = 0;
        for (const PipelineOperation& operation : pipeline_operations(order, stage, 4, 7))
          if (operation.kind == Kind::backward) CHECK(operation.micro_batch == expected++);
        CHECK(expected == 7);
      }
  }

  TEST_CASE("batch/pipeline_schedule: a list with any operation dropped doubled or swapped is refused") {
    Random random(5);
    int refused = 0;
    for (const PipelineOrder order : kOrders)
      for (int stages : {2, 3, 5})
        for (int trial = 0; trial < 60; ++trial) {
          auto lists = pipeline_operations(order, stages, 6);
          auto& list = lists[random.below(static_cast<std::uint64_t>(stages))];
          const auto at = static_cast<std::ptrdiff_t>(random.below(list.size()));
          if (trial % 2 == 0)
            list.erase(list.begin() + at);
          else
            list.insert(list.begin() + at, list[static_cast<std::size_t>(at)]);
          CAPTURE(stages);
          CAPTURE(trial);
          CHECK(fault_of(lists) != "");
          ++refused;
        }
    CHECK(refused == 360);
  }

  TEST_CASE("batch/pipeline_schedule: a fault names the stage and the operation") {
    auto lists = pipeline_operations(PipelineOrder::one_forward_one_backward, 2, 3);
    std::swap(lists[1][1], lists[1][2]);
    CHECK(fault_of(lists) == "stage 1: operation 1 (backward 0) comes before its forward pass");

    lists = pipeline_operations(PipelineOrder::one_forward_one_backward, 2, 3);
    // Both wait for the other first: a deadlock.
    lists[0].insert(lists[0].begin(), {.kind = Kind::exchange,
                                       .transfers = {{batch::PipelineTransfer::What::gradient, false, 0}}});
    CHECK(fault_of(lists) == "stage 0: operation 0 (receive gradient 0) waits without end");

    lists = pipeline_operations(PipelineOrder::gpipe, 2, 2);
    std::swap(lists[1][0], lists[1][2]);  // the inputs in the wrong order
    CHECK(fault_of(lists).starts_with("stage 1: operation 0 (receive output 1) meets micro-batch 0"));
  }

  TEST_CASE("batch/pipeline_schedule: orders are known by name") {
    for (const PipelineOrder order : kOrders) CHECK(batch::pipeline_order_named(name_of(order)) == order);
    CHECK_FALSE(batch::pipeline_order_named("zigzag").has_value());
  }
}

}  // namespace saturn::testing
