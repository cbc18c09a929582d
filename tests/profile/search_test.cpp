// The search on paper: what is tried, in which order, and why the rest is not.

#include "profile/search.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "saturn/base/files.h"
#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

// One class on two slots, whose candidates a test makes up.
struct Paper {
  explicit Paper(const std::string& techniques = "", std::int64_t memory_bytes = 0)
      : machine(testing::cpu_machine(2, memory_bytes)) {
    REQUIRE(write_whole(folder.file("text.txt"), std::string(4000, 'a')).ok());
    const std::string text =
        "[batch]\nname = \"paper\"\n[data.text]\nkind = \"text\"\npath = \"text.txt\"\nsequence_length = 16\n"
        "[[job]]\nname = \"one\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 20\nbatch_size = 4\n"
        "optimizer.lr = 1e-3\n" +
        techniques;
    REQUIRE(write_whole(folder.file("batch.toml"), text).ok());
    Result<batch::Batch> read = batch::read_batch(folder.file("batch.toml"));
    REQUIRE_MESSAGE(read.ok(), to_text(read.faults()));
    batch = *std::move(read);
  }

  testing::TemporaryDirectory folder;
  devices::Machine machine;
  batch::Batch batch;
};

Trial candidate(const std::string& technique, const std::string& knob, double predicted_s,
                std::int64_t predicted_bytes) {
  Trial trial{.job_class = "c",
              .jobs = {"one"},
              .configuration = {.technique = technique, .num_devices = 2, .num_ranks = 2},
              .predicted_step_time_s = predicted_s,
              .predicted_memory_bytes = predicted_bytes};
  if (!knob.empty()) trial.configuration.knobs["knob"] = knob;
  trial.id = trial_id(trial.job_class, trial.configuration);
  return trial;
}

Trial ran(Trial trial, double step_time_s, std::int64_t memory_peak_bytes) {
  trial.outcome = Outcome::ok;
  trial.step_time_s = step_time_s;
  trial.memory_peak_bytes = memory_peak_bytes;
  return trial;
}

Trial refused(Trial trial, std::int64_t needed_bytes) {
  trial.outcome = Outcome::out_of_memory;
  trial.needed_bytes = needed_bytes;
  return trial;
}

// Runs the search to its end as `measure` would; `outcome_of` plays the trials.
std::vector<std::string> played(Search& search, const std::function<Trial(const Trial&)>& outcome_of) {
  std::vector<std::string> tried;
  for (std::size_t group = 0; group < search.num_groups(); ++group) {
    while (const Trial* const next = search.next(group)) {
      const Trial trial = *next;
      tried.push_back(batch::to_text(trial.configuration));
      search.start(trial.id);
      CHECK(search.next(group) == nullptr);  // its outcome decides what is next
      REQUIRE(search.conclude(outcome_of(trial)));
    }
  }
  return tried;
}

using Names = std::vector<std::string>;

TEST_SUITE("profile") {
  TEST_CASE("profile/search: candidates are tried in the order of predicted times until none can win") {
    Paper paper;
    Search search(
        {candidate("a", "slow", 1.3, 10), candidate("a", "", 1.0, 10), candidate("a", "near", 1.08, 10),
         candidate("b", "", 1.2, 10), candidate("c", "", 1.5, 10)},
        paper.batch, paper.machine);
    CHECK(search.num_expected() == 3);
    const Names tried = played(search, [](const Trial& trial) {
      return ran(trial, 3.0 * trial.predicted_step_time_s, 10);  // every machine is slower than predicted
    });
    CHECK(tried == Names{"a x2", "a x2 (knob near)", "b x2"});
    Profile profile;
    search.finish(profile, Untried::Why::budget, "the budget was spent");
    CHECK(profile.trials.empty());
    REQUIRE(profile.untried.size() == 2);
    CHECK(profile.untried[0].why == Untried::Why::slower);
    CHECK(profile.untried[0].reason == "predicted to take 3.9e+03 ms a step, and a x2 takes 3e+03 ms");
  }

  TEST_CASE(
      "profile/search: a knob is tried when its technique did worse than predicted but it may still win") {
    Paper paper;
    // b is measured at half of its prediction: its second candidate is then predicted to beat a.
    Search search({candidate("a", "", 1.0, 10), candidate("b", "", 1.2, 10), candidate("b", "two", 1.6, 10)},
                  paper.batch, paper.machine);
    const Names tried = played(search, [](const Trial& trial) {
      return ran(trial, trial.configuration.technique == "b" ? 0.5 * trial.predicted_step_time_s : 1.0, 10);
    });
    CHECK(tried == Names{"a x2", "b x2"});  // 0.8 s against 0.6 s
    Search again({candidate("a", "", 1.0, 10), candidate("b", "", 1.2, 10), candidate("b", "two", 1.3, 10)},
                 paper.batch, paper.machine);
    CHECK(played(again, [](const Trial& trial) {
            return ran(trial, trial.configuration.technique == "b" ? 0.5 * trial.predicted_step_time_s : 1.0,
                       10);
          }) == Names{"a x2", "b x2", "b x2 (knob two)"});
  }

  TEST_CASE("profile/search: what trades time for memory is tried where the plain one does not fit") {
    Paper paper("", 1000);
    const std::vector<Trial> candidates = {candidate("a", "", 1.0, 1100), candidate("a", "half", 1.2, 600),
                                           candidate("a", "full", 1.33, 300)};
    Search search(candidates, paper.batch, paper.machine);
    const Names tried = played(search, [](const Trial& trial) {
      return trial.predicted_memory_bytes > 1000 ? refused(trial, 1200) : ran(trial, 1.0, 650);
    });
    CHECK(tried == Names{"a x2", "a x2 (knob half)"});
    Search roomy(candidates, paper.batch, testing::cpu_machine(2, 5000));
    CHECK(played(roomy, [](const Trial& trial) { return ran(trial, 1.0, 500); }) == Names{"a x2"});
  }

  TEST_CASE("profile/search: what saves memory is not tried where its technique runs without however close") {
    Paper paper;
    Search search({candidate("a", "", 1.0, 900), candidate("a", "sharded", 1.02, 500),
                   candidate("a", "other", 1.05, 900), candidate("a", "quick", 0.98, 300)},
                  paper.batch, paper.machine);
    const Names tried = played(search, [](const Trial& trial) { return ran(trial, 1.0, 500); });
    // The quickest needs little too, so it speaks against none.
    CHECK(tried == Names{"a x2 (knob quick)", "a x2", "a x2 (knob other)"});
    Profile profile;
    search.finish(profile, Untried::Why::budget, "the budget was spent");
    REQUIRE(profile.untried.size() == 1);
    CHECK(profile.untried[0].why == Untried::Why::slower);
    CHECK(profile.untried[0].reason == "a x2 fits, and is predicted to be quicker with the memory there is");
  }

  TEST_CASE("profile/search: a technique that fails is not tried with its other knobs") {
    Paper paper;
    Search search({candidate("a", "", 1.0, 10), candidate("a", "two", 1.01, 10), candidate("b", "", 1.2, 10)},
                  paper.batch, paper.machine);
    const Names tried = played(search, [](const Trial& trial) {
      if (trial.configuration.technique == "b") return ran(trial, 1.0, 10);
      Trial failed = trial;
      failed.outcome = Outcome::failed;
      return failed;
    });
    CHECK(tried == Names{"a x2", "b x2"});
    Profile profile;
    search.finish(profile, Untried::Why::budget, "the budget was spent");
    REQUIRE(profile.untried.size() == 1);
    CHECK(profile.untried[0].why == Untried::Why::failing);
    CHECK(profile.untried[0].reason == "a x2 failed");
  }

  TEST_CASE("profile/search: what a technique took beside the best of one class is expected of the next") {
    Paper paper;
    const auto of_class = [](const std::string& name, Trial trial) {
      trial.job_class = name;
      trial.id = trial_id(name, trial.configuration);
      return trial;
    };
    // b takes twice its prediction in the first class: in the second it is not tried.
    std::vector<Trial> candidates;
    for (const char* name : {"first", "second"})
      for (const char* technique : {"a", "b"})
        candidates.push_back(of_class(name, candidate(technique, "", technique[0] == 'a' ? 1.0 : 1.2, 10)));
    Search search(candidates, paper.batch, paper.machine);
    const Names tried = played(search, [](const Trial& trial) {
      return ran(trial, trial.configuration.technique == "b" ? 2.4 : 1.0, 10);
    });
    CHECK(tried == Names{"a x2", "b x2", "a x2"});
  }

  TEST_CASE("profile/search: a prediction far over the limit is recorded as out of memory without a trial") {
    Paper paper("", 1000);
    Search search({candidate("a", "", 1.0, 1600), candidate("a", "half", 1.2, 700)}, paper.batch,
                  paper.machine);
    const Names tried = played(search, [](const Trial& trial) { return ran(trial, 1.0, 900); });
    CHECK(tried == Names{"a x2 (knob half)"});
    Profile profile;
    search.finish(profile, Untried::Why::budget, "the budget was spent");
    CHECK(profile.untried.empty());
    REQUIRE(profile.trials.size() == 1);
    CHECK(profile.trials[0].outcome == Outcome::out_of_memory);
    CHECK(profile.trials[0].source == Source::interpolated);
    // 1600 x 900 / 700: by what the trial measured.
    CHECK(profile.trials[0].needed_bytes == 2057);
    CHECK(profile.trials[0].reason ==
          "not tried: predicted to need 2.0 KiB of 1000 B, by what a needed elsewhere");
  }

  TEST_CASE("profile/search: the first trial of a technique calibrates the memory of the others") {
    Paper paper("", 1000);
    // The formula says that both fit; the first one took twice as much, so the second would not.
    Search search({candidate("a", "", 1.0, 400), candidate("a", "more", 1.05, 600)}, paper.batch,
                  paper.machine);
    CHECK(played(search, [](const Trial& trial) {
            return ran(trial, 1.0, 2 * trial.predicted_memory_bytes);
          }) == Names{"a x2"});
    // A refusal calibrates too, by the least that was needed.
    Search worse(
        {candidate("a", "", 1.0, 500), candidate("a", "less", 1.2, 400), candidate("a", "least", 1.3, 200)},
        paper.batch, paper.machine);
    CHECK(played(worse, [](const Trial& trial) {
            return trial.predicted_memory_bytes == 500 ? refused(trial, 1500) : ran(trial, 1.0, 700);
          }) == Names{"a x2", "a x2 (knob least)"});
  }

  TEST_CASE("profile/search: a technique that a job names gets a trial however slow it is predicted to be") {
    Paper paper("techniques = [\"single\", \"ddp\"]\n");
    Search search({candidate("single", "", 1.0, 10), candidate("ddp", "", 9.0, 10),
                   candidate("ddp", "b", 9.9, 10), candidate("offload", "", 9.0, 10)},
                  paper.batch, paper.machine);
    CHECK(played(search, [](const Trial& trial) { return ran(trial, trial.predicted_step_time_s, 10); }) ==
          Names{"single x2", "ddp x2"});
  }

  TEST_CASE("profile/search: the memory of a technique is scaled by the most that its trials needed") {
    CHECK_FALSE(memory_scale({}).has_value());
    const Trial low = ran(candidate("a", "", 1.0, 100), 1.0, 110);
    const Trial high = refused(candidate("a", "", 1.0, 100), 150);
    Trial guessed = refused(candidate("a", "", 1.0, 100), 900);
    guessed.source = Source::interpolated;
    Trial failed = candidate("a", "", 1.0, 100);
    CHECK(memory_scale({&low}) == doctest::Approx(1.1));
    CHECK(memory_scale({&low, &high, &guessed, &failed}) == doctest::Approx(1.5));
  }

  TEST_CASE("profile/search: a machine with shares and ranks compares with what one rank has") {
    Paper paper("", 1000);
    Trial whole = candidate("a", "", 1.0, 1900);
    whole.configuration.num_ranks = 1;  // one process with both slots' memory
    Search search({whole}, paper.batch, paper.machine);
    CHECK(played(search, [](const Trial& trial) { return ran(trial, 1.0, 1900); }).size() == 1);
  }
}

}  // namespace
}  // namespace saturn::profile
