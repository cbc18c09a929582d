// The closing table.

#include "saturn/view/summary.h"

#include <doctest/doctest.h>

#include "saturn/view/text.h"
#include "tests/support/golden.h"

namespace saturn::view {
namespace {

using journal::JobState;

journal::Summary some_summary() {
  journal::Summary summary{.batch = "kjv-sweep",
                           .outcome = "failed",
                           .makespan_s = 74.1,
                           .predicted_makespan_s = 71.4,
                           .best_job = "gpt2-1e-3-b8"};
  summary.jobs = {
      {.name = "gpt2-1e-3-b8",
       .state = JobState::done,
       .steps = 400,
       .num_steps = 400,
       .attempts = 1,
       .techniques = {"single x1"},
       .devices = {{"local", 0}},
       .time_s = 33.0,
       .predicted_time_s = 31.4,
       .last_attempt_s = 33.0,
       .train_loss = 2.51,
       .validation = {{"loss", 2.62}, {"unigram_loss", 3.2}},
       .model_dir = "jobs/gpt2-1e-3-b8/model"},
      {.name = "gpt2-1e-3-b16",
       .state = JobState::done,
       .steps = 200,
       .num_steps = 200,
       .attempts = 2,
       .techniques = {"ddp x2", "single x1"},
       .devices = {{"local", 1}},
       .time_s = 40.0,
       .predicted_time_s = 24.0,
       .last_attempt_s = 22.0,
       .train_loss = 2.71,
       .validation = {{"loss", 2.8}, {"unigram_loss", 3.2}},
       .model_dir = "jobs/gpt2-1e-3-b16/model"},
      {.name = "gpt2-3e-4-b8",
       .state = JobState::failed,
       .reason = "rank 0 died a third time (signal 9, step 12)",
       .steps = 12,
       .num_steps = 400,
       .attempts = 3,
       .techniques = {"single x1"},
       .devices = {{"local", 1}},
       .time_s = 5.0},
      {.name = "gpt2-3e-4-b16", .state = JobState::pending, .num_steps = 400},
  };
  return summary;
}

TEST_CASE("view/summary: a run is summed up at several widths") {
  for (const int width : {40, 80, 150}) {
    testing::check_golden("view/summary-" + std::to_string(width) + ".txt",
                          summary_text(some_summary(), {.width = width, .unicode = true}));
  }
  testing::check_golden("view/summary-150-ascii.txt", summary_text(some_summary(), {.width = 150}));
}

TEST_CASE("view/summary: classifiers have their accuracy") {
  journal::Summary summary = some_summary();
  CHECK(summary_text(summary, {.width = 150}).find("accuracy") == std::string::npos);
  summary.jobs[1].validation = {{"loss", 0.1}, {"accuracy", 0.98765}};
  const std::string text = summary_text(summary, {.width = 80});
  CHECK(text.find("accuracy") != std::string::npos);
  CHECK(text.find("98.8 %") != std::string::npos);
}

TEST_CASE("view/summary: no line is wider than the terminal") {
  for (int width = kLeastWidth; width < 200; ++width) {
    const std::string text = summary_text(some_summary(), {.width = width, .unicode = true});
    for (std::size_t from = 0; from < text.size(); from = text.find('\n', from) + 1) {
      CAPTURE(width);
      CHECK(columns_of(text.substr(from, text.find('\n', from) - from)) <= width);
    }
  }
}

TEST_CASE("view/summary: the error of the prediction is said of a whole run only") {
  journal::Summary summary = some_summary();
  CHECK(summary_text(summary, {.width = 80}).find("predicted 71.4 s.") != std::string::npos);
  for (journal::JobSummary& job : summary.jobs) job.state = JobState::done;
  CHECK(summary_text(summary, {.width = 80}).find("predicted 71.4 s (error -3.6 %).") != std::string::npos);
}

TEST_CASE("view/summary: a batch without jobs has a summary") {
  CHECK(summary_text({}, {.width = 80}).find("0 of 0 jobs done") != std::string::npos);
}

}  // namespace
}  // namespace saturn::view
