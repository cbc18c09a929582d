// Trials for other batches: what comes back, what is passed over, and what runs found of them.

#include "saturn/profile/cache.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "saturn/base/files.h"
#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

struct Kept {
  Kept() {
    trial = {.id = "toy-single-x1",
             .job_class = "toy",
             .jobs = {"one"},
             .configuration = {.technique = "single"},
             .outcome = Outcome::ok,
             .step_time_s = 2.0,
             .memory_peak_bytes = 1000,
             .concurrency = "alone"};
    conditions = {
        .fingerprint = "f", .saturn = "0.1.0", .training_version = 1, .warmup_steps = 1, .trial_steps = 3};
  }
  TrialCache cache(const std::string& training = "build 1") {
    return TrialCache(folder.file("trials"), training, clock);
  }
  TrialCache::Tell tell() {
    return [this](const std::string& sentence) { told.push_back(sentence); };
  }
  std::string file_of_trial() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.file("trials"))) {
      if (entry.path().filename() == "toy-single-x1.json") return entry.path().string();
    }
    return "";
  }

  testing::TemporaryDirectory folder;
  FakeClock clock;
  devices::Machine machine = testing::cpu_machine(2);
  Trial trial;
  Conditions conditions;
  std::vector<std::string> told;
};

TEST_SUITE("profile") {
  TEST_CASE("profile/cache: a kept trial comes back as shared and only under its own conditions") {
    Kept kept;
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, kept.trial).ok());
    const std::optional<Trial> back = kept.cache().find(kept.conditions, kept.trial.id, kept.tell());
    REQUIRE(back);
    CHECK(back->step_time_s == 2.0);
    CHECK(back->memory_peak_bytes == 1000);
    CHECK(back->source == Source::shared);
    CHECK(back->jobs.empty());
    CHECK_FALSE(kept.cache().find(kept.conditions, "toy-ddp-x2", kept.tell()));
    CHECK_FALSE(kept.cache("build 2").find(kept.conditions, kept.trial.id, kept.tell()));
    for (const auto& change : std::vector<std::function<void(Conditions&)>>{
             [](Conditions& one) { one.fingerprint = "g"; }, [](Conditions& one) { one.saturn = "0.2.0"; },
             [](Conditions& one) { one.training_version = 2; },
             [](Conditions& one) { one.trial_steps = 4; }}) {
      Conditions other = kept.conditions;
      change(other);
      CHECK_FALSE(kept.cache().find(other, kept.trial.id, kept.tell()));
    }
    CHECK(kept.told.empty());
  }

  TEST_CASE("profile/cache: a torn or changed or foreign file is passed over by its name") {
    Kept kept;
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, kept.trial).ok());
    const std::string path = kept.file_of_trial();
    const Result<std::string> whole = read_whole(path);
    REQUIRE(whole.ok());
    std::string changed = *whole;
    const std::size_t at = changed.find("\"step_time_s\": 2");
    REQUIRE(at != std::string::npos);
    changed.replace(at, 16, "\"step_time_s\": 9");
    Trial other = kept.trial;
    other.id = "toy-single-x7";
    for (const std::string& content : {whole->substr(0, whole->size() / 2), changed, std::string("not JSON"),
                                       std::string("{}"), std::string()}) {
      kept.told.clear();
      REQUIRE(write_whole(path, content).ok());
      CHECK_FALSE(kept.cache().find(kept.conditions, kept.trial.id, kept.tell()));
      REQUIRE(kept.told.size() == 1);
      CHECK(kept.told.front().find(path) != std::string::npos);
    }
    // Under another's name.
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, other).ok());
    std::filesystem::copy_file(directory_of(path) + "/toy-single-x7.json", path,
                               std::filesystem::copy_options::overwrite_existing);
    CHECK_FALSE(kept.cache().find(kept.conditions, kept.trial.id, kept.tell()));
    // Written again it is there again.
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, kept.trial).ok());
    CHECK(kept.cache().find(kept.conditions, kept.trial.id, kept.tell()));
  }

  TEST_CASE("profile/cache: what runs found corrects a trial the more the more runs agree") {
    Kept kept;
    const auto found_in = [&](const std::string& run, double factor, std::int64_t num_steps) {
      REQUIRE(kept.cache()
                  .add_found(
                      kept.conditions, run, kept.trial,
                      {.trial = kept.trial.id, .step_factor = factor, .spread = 0.05, .num_steps = num_steps})
                  .ok());
    };
    const auto factor = [&] {
      const std::optional<Correction> correction = kept.cache().correction_of(kept.conditions, kept.trial);
      return correction && correction->num_steps > 0 ? correction->step_factor : 1.0;
    };
    CHECK(factor() == 1.0);
    found_in("a", 1.0001, 100);
    CHECK(factor() == 1.0);   // less than the steps vary themselves
    found_in("a", 2.0, 100);  // the same run goes on
    CHECK(factor() == doctest::Approx(std::sqrt(2.0)));
    found_in("b", 2.0, 100);
    CHECK(factor() == doctest::Approx(std::pow(2.0, 2.0 / 3.0)));
    for (int i = 0; i < 40; ++i) found_in("run " + std::to_string(i), 2.0, 100);
    CHECK(factor() == doctest::Approx(std::pow(2.0, 16.0 / 17.0)));  // of the latest sixteen

    // Measured again, the trial is as slow as the runs said: nothing is left to correct.
    Trial again = kept.trial;
    again.step_time_s = 4.0;
    CHECK_FALSE(kept.cache().correction_of(kept.conditions, again));
  }

  TEST_CASE("profile/cache: starts and saves of runs come back and damage begins anew") {
    Kept kept;
    const Correction found = {.trial = kept.trial.id, .start_s = 3.0, .save_s = 0.5};
    REQUIRE(kept.cache().add_found(kept.conditions, "a", kept.trial, found).ok());
    const std::optional<Correction> back = kept.cache().correction_of(kept.conditions, kept.trial);
    REQUIRE(back);
    CHECK(back->num_steps == 0);
    CHECK(back->start_s == 3.0);
    CHECK(back->save_s == 0.5);
    std::string path;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kept.folder.file("trials"))) {
      if (entry.path().string().ends_with(".found.json")) path = entry.path().string();
    }
    REQUIRE(write_whole(path, "torn").ok());
    CHECK_FALSE(kept.cache().correction_of(kept.conditions, kept.trial));
    REQUIRE(kept.cache().add_found(kept.conditions, "b", kept.trial, found).ok());
    CHECK(kept.cache().correction_of(kept.conditions, kept.trial));
  }

  TEST_CASE("profile/cache: processes that write at once lose nothing") {
    Kept kept;
    constexpr int kWriters = 4, kRounds = 4;
    std::vector<pid_t> children;
    for (int writer = 0; writer < kWriters; ++writer) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        bool good = true;
        for (int round = 0; round < kRounds; ++round) {
          const std::string run = std::to_string(writer) + "-" + std::to_string(round);
          good &= kept.cache().keep(kept.conditions, kept.machine, kept.trial).ok();
          good &= kept.cache()
                      .add_found(kept.conditions, run, kept.trial,
                                 {.trial = kept.trial.id, .step_factor = 2.0, .num_steps = 10})
                      .ok();
        }
        ::_exit(good ? 0 : 1);
      }
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      CHECK(status == 0);
    }
    CHECK(kept.cache().find(kept.conditions, kept.trial.id, kept.tell()));
    const std::optional<Correction> all = kept.cache().correction_of(kept.conditions, kept.trial);
    REQUIRE(all);
    CHECK(all->num_steps == 10 * kWriters * kRounds);
    CHECK(kept.told.empty());
  }

  TEST_CASE("profile/cache: the list names hardware and models and passes over what is damaged") {
    Kept kept;
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, kept.trial).ok());
    Trial other = kept.trial;
    other.id = "big-single-x1";
    other.job_class = "big";
    REQUIRE(kept.cache().keep(kept.conditions, kept.machine, other).ok());
    Conditions older = kept.conditions;
    older.saturn = "0.0.9";
    REQUIRE(kept.cache().keep(older, kept.machine, kept.trial).ok());
    const std::vector<CachedConditions> all = kept.cache().list(kept.tell());
    REQUIRE(all.size() == 2);
    const CachedConditions& one = all[0].num_trials == 2 ? all[0] : all[1];
    CHECK(one.num_trials == 2);
    CHECK(one.job_classes == std::vector<std::string>{"big", "toy"});
    CHECK(one.num_devices == 2);
    CHECK(one.cpu_model == "paper");
    CHECK(one.conditions == kept.conditions);
    CHECK(kept.told.empty());
    REQUIRE(write_whole(one.folder + "/conditions.json", "torn").ok());
    CHECK(kept.cache().list(kept.tell()).size() == 1);
    CHECK(kept.told.size() == 1);
    CHECK(TrialCache(kept.folder.file("nowhere"), "", kept.clock).list(kept.tell()).empty());
  }
}

}  // namespace
}  // namespace saturn::profile
