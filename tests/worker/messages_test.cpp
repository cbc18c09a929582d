#include "saturn/worker/messages.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "saturn/base/random.h"

namespace saturn::worker {
namespace {

Assign full_assign() {
  return {
      .job = {{"name", "gpt2-a"}, {"batch_size", 16}, {"optimizer", {{"lr", 1e-3}}}},
      .data = {{"name", "kjv"}},
      .configuration = {{"technique", "ddp"}, {"num_devices", 2}, {"knobs", Json::object()}},
      .rank = 1,
      .num_ranks = 2,
      .node = "local",
      .devices = {{.index = 1, .device_class = "cpu", .memory_bytes = 1 << 30, .cores = {1, 3}, .threads = 2},
                  {.index = 2,
                   .kind = "gpu",
                   .device_class = "h200",
                   .gpu_index = 0,
                   .gpu_uuid = "GPU-1",
                   .share = 1,
                   .num_shares = 4}},
      .cores = {1, 3},
      .threads = 2,
      .memory_limit_bytes = std::int64_t{5} << 33,
      .rendezvous = {.port = 45123, .listen_fd = 4, .key = "00ff", .timeout_s = 12.5},
      .mode = Mode::trial,
      .job_directory = "/runs/a/jobs/gpt2-a",
      .log_path = "/runs/a/jobs/gpt2-a/log.txt",
      .resume_from = "/runs/a/jobs/gpt2-a/checkpoints/step-000400",
      .from_step = 400,
      .to_step = 1'000'000'000'000,
      .warmup_steps = 3,
      .trial_steps = 7,
      .checkpoint_every = 100,
      .keep_checkpoints = 3,
      .max_skipped_steps = 9,
      .num_skipped_steps = 2,
      .log_every = 5,
      .evaluate_at = {500, 1'000'000'000},
      .seed = std::numeric_limits<std::uint64_t>::max()};
}

// As it travels: through one line of text.
template <class Message>
Message there_and_back(const Message& message, Result<Message> (*read)(const Json&)) {
  const auto json = parse_json(to_line(to_json(message)), "line");
  REQUIRE(json.ok());
  auto back = read(*json);
  REQUIRE_MESSAGE(back.ok(), to_text(back.ok() ? Diagnostics{} : back.faults()));
  return *back;
}

TEST_SUITE("worker") {
  TEST_CASE("worker/messages: every message to a rank comes back the same") {
    for (const ToRank& message : {ToRank(full_assign()), ToRank(Assign{}), ToRank(SaveCheckpoint{}),
                                  ToRank(StopAtStep{.step = 17}), ToRank(End{})}) {
      CAPTURE(to_line(to_json(message)));
      CHECK(there_and_back(message, &to_rank_from_json) == message);
    }
  }

  TEST_CASE("worker/messages: every message from a rank comes back the same") {
    const double infinity = std::numeric_limits<double>::infinity();
    for (const FromRank& message :
         {FromRank(Ready{.pid = 12, .phase = "assigned"}),
          FromRank(Heartbeat{.step = 3, .doing = "saving \"x\"\n"}),
          FromRank(Step{.step = 5,
          .loss = 0.1,
          .learning_rate = 1e-300,
          .gradient_norm = infinity,
          .step_time_s = 1e-9,
          .samples = 16,
          .tokens = 2048,
          .skipped = true}),
          FromRank(CheckpointSaved{.step = 9, .path = "/a/b c", .seconds = 0.25}),
          FromRank(Metric{.step = 4, .values = {{"validation_loss", -infinity}, {"perplexity", 3.5}}}),
          FromRank(Warning{.step = 8,
          .about = "checkpoint_not_saved",
          .error_class = ErrorClass::disk_full,
          .message = "full"}),
          FromRank(Error{.error_class = ErrorClass::out_of_memory,
          .message = "no",
          .needed_bytes = std::int64_t{1} << 41}),
          FromRank(Finished{.steps = 100,
          .times = {{"load_s", 0.1}, {"start_s", 2.0}},
          .memory_peak_bytes = std::int64_t{1} << 40,
          .host_memory_peak_bytes = 7,
          .metrics = {{"validation_loss", 2.25}},
          .knobs = {{"cuts", {0, 3}}}})}) {
      CAPTURE(to_line(to_json(message)));
      CHECK(there_and_back(message, &from_rank_from_json) == message);
    }
  }

  TEST_CASE("worker/messages: numbers keep every bit and a loss that is no number arrives as such") {
    Random random(7);
    for (int i = 0; i < 2000; ++i) {
      const double loss = std::ldexp(random.uniform() - 0.5, static_cast<int>(random.below(400)) - 200);
      const FromRank message = Step{.step = i, .loss = loss};
      CHECK(std::get<Step>(there_and_back(message, &from_rank_from_json)).loss == loss);
    }
    const FromRank poisoned = Step{.step = 1, .loss = std::numeric_limits<double>::quiet_NaN()};
    CHECK(std::isnan(std::get<Step>(there_and_back(poisoned, &from_rank_from_json)).loss));
  }

  TEST_CASE("worker/messages: what is not a message is refused with its member") {
    struct Row {
      std::string text;
      std::string want;
    };
    const std::vector<Row> rows = {
        {R"([])", "message#"},
        {R"({"step": 3})", "message#/type"},
        {R"({"type": "assign"})", "message#/type"},
        {R"({"type": "heartbeat", "step": "three", "doing": "step"})", "message#/step"},
        {R"({"type": "heartbeat", "step": 3, "doing": "step", "extra": 1})", "message#/extra"},
        {R"({"type": "error", "class": "tired", "message": ""})", "message#/class"},
        {R"({"type": "step", "step": 1, "loss": "much"})", "message#/loss"},
        {R"({"type": "ready", "protocol": 99999999999, "pid": 1, "phase": ""})", "message#/protocol"},
        {R"({"type": "metric", "step": 1, "values": {"a/b": true}})", "message#/values/a~1b"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.text);
      const auto message = from_rank_from_json(*parse_json(row.text, "line"));
      REQUIRE_FALSE(message.ok());
      CHECK(message.faults().front().where == row.want);
    }
  }

  TEST_CASE("worker/messages: every class of error has its own name") {
    for (int i = 0; i <= static_cast<int>(ErrorClass::internal); ++i) {
      const FromRank message = Error{.error_class = static_cast<ErrorClass>(i), .message = "x"};
      CHECK(there_and_back(message, &from_rank_from_json) == message);
    }
  }
}

}  // namespace
}  // namespace saturn::worker
