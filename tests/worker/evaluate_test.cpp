#include "saturn/worker/evaluate.h"

#include <doctest/doctest.h>

#include "saturn/base/diagnostic.h"

namespace saturn::worker {
namespace {

TEST_SUITE("worker") {
  TEST_CASE("worker/evaluate: a request and its reply cross unchanged") {
    const EvaluateRequest request{
        .model_directory = "m", .tokens = "t.bin", .sequence_length = 128, .logits = "l.safetensors"};
    const Result<EvaluateRequest> read = evaluate_request_from_json(to_line(to_json(request)));
    REQUIRE(read.ok());
    CHECK((*read == request));
    const Evaluation evaluation{
        .loss = 3.25, .perplexity = 25.790339917193062, .count = 127, .sequence_length = 64};
    const Result<Evaluation> back = evaluation_from_reply(reply_text(evaluation));
    REQUIRE(back.ok());
    CHECK((*back == evaluation));
    const Evaluation of_images{.loss = 1.5, .accuracy = 0.75, .accuracy_top5 = 1.0, .count = 64};
    const Result<Evaluation> images_back = evaluation_from_reply(reply_text(of_images));
    REQUIRE(images_back.ok());
    CHECK((*images_back == of_images));
  }

  TEST_CASE("worker/evaluate: faults cross with all their parts") {
    const Diagnostics faults = {
        {.kind = Kind::disk_full, .where = "a", .what = "b", .expected = "c", .fix = "d"},
        {.kind = Kind::input, .what = "e"},
    };
    const Result<Evaluation> back = evaluation_from_reply(reply_text(faults));
    REQUIRE_FALSE(back.ok());
    CHECK(to_text(back.faults()) == to_text(faults));
    CHECK(back.faults()[0].kind == Kind::disk_full);
    CHECK_FALSE(evaluation_from_reply("").ok());
    CHECK_FALSE(evaluation_from_reply(R"({"faults": []})").ok());
    CHECK_FALSE(evaluation_from_reply(R"({"loss": 1})").ok());
  }
}

}  // namespace
}  // namespace saturn::worker
