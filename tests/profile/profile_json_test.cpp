// profile.json: exact both ways, strict with pointers.

#include <doctest/doctest.h>

#include "saturn/profile/profile.h"
#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

Profile sample() {
  Profile profile{.made_from = {{.name = "sweep.toml", .digest = "d0"}}, .machine = testing::cpu_machine(2)};
  profile.conditions = {
      .fingerprint = "f", .saturn = "0.1.0", .training_version = 1, .warmup_steps = 2, .trial_steps = 6};
  profile.trials.push_back({.id = "t1",
                            .job_class = "c",
                            .jobs = {"a", "b"},
                            .configuration = {.technique = "single"},
                            .outcome = Outcome::ok,
                            .step_time_s = 0.1,
                            .step_time_spread_s = 0.001,
                            .samples_per_s = 160.0,
                            .memory_peak_bytes = std::int64_t{3} << 33,
                            .concurrency = "alone"});
  profile.trials.push_back({.id = "t2",
                            .job_class = "c",
                            .configuration = {.technique = "ddp", .num_devices = 2, .num_ranks = 2},
                            .outcome = Outcome::out_of_memory,
                            .reason = "needs more",
                            .needed_bytes = std::int64_t{5} << 33,
                            .predicted_step_time_s = 0.01,
                            .predicted_memory_bytes = 17});
  profile.untried.push_back({.trial = {.id = "t3",
                                       .job_class = "c",
                                       .jobs = {"a"},
                                       .configuration = {.technique = "ddp"},
                                       .predicted_step_time_s = 0.02},
                             .why = Untried::Why::budget,
                             .reason = "the budget was spent"});
  return profile;
}

TEST_SUITE("profile") {
  TEST_CASE("profile/profile_json: a profile is read back as it was written and its keys keep their order") {
    const Profile profile = sample();
    const Json document = to_json(profile);
    const Result<Profile> back =
        profile_from_json(*parse_json(to_text(document), "profile.json"), "profile.json");
    REQUIRE(back.ok());
    CHECK(to_text(to_json(*back)) == to_text(document));
    CHECK(back->machine == profile.machine);
    CHECK(back->conditions == profile.conditions);
    std::string keys;
    for (const auto& [key, value] : document["trials"][0].items()) keys += key + " ";
    CHECK(
        keys ==
        "id job_class jobs technique num_devices num_ranks device_class knobs outcome reason step_time_s "
        "step_time_spread_s samples_per_s memory_peak_bytes host_memory_peak_bytes start_time_s save_time_s "
        "load_time_s evaluate_time_s end_time_s source concurrency needed_bytes predicted_step_time_s "
        "predicted_memory_bytes ");
    for (const char* key : {"needed_bytes", "predicted_step_time_s", "predicted_memory_bytes"}) {
      Json bare = *parse_json(to_text(document), "profile.json");
      bare["trials"][0].erase(key);
      CHECK(profile_from_json(bare, "profile.json").ok());
    }
  }

  TEST_CASE("profile/profile_json: every fault is named at its pointer") {
    struct Row {
      std::string pointer;
      std::function<void(Json&)> spoil;
    };
    const std::vector<Row> rows = {
        {"/trials/1/outcome", [](Json& d) { d["trials"][1]["outcome"] = "out_of_memry"; }},
        {"/trials/0/step_time_s", [](Json& d) { d["trials"][0]["step_time_s"] = 0.0; }},
        {"/trials/0/step_time_s", [](Json& d) { d["trials"][0]["step_time_s"] = -1.0; }},
        {"/trials/0/num_devices", [](Json& d) { d["trials"][0]["num_devices"] = 0; }},
        {"/trials/0/memory_peak_bytes", [](Json& d) { d["trials"][0]["memory_peak_bytes"] = "much"; }},
        {"/trials/1/id", [](Json& d) { d["trials"][1]["id"] = "t1"; }},
        {"/trials/1/colour", [](Json& d) { d["trials"][1]["colour"] = 1; }},
        {"/trials/1/jobs", [](Json& d) { d["trials"][1]["jobs"] = {1}; }},
        {"/conditions/trial_steps", [](Json& d) { d["conditions"].erase("trial_steps"); }},
        {"/trials", [](Json& d) { d.erase("trials"); }},
        {"/untried", [](Json& d) { d["untried"] = "t3"; }},
        {"/untried/0/why", [](Json& d) { d["untried"][0]["why"] = "slow"; }},
        {"/trials/1/needed_bytes", [](Json& d) { d["trials"][1]["needed_bytes"] = -1; }},
    };
    for (const Row& row : rows) {
      CAPTURE(row.pointer);
      Json document = *parse_json(to_text(to_json(sample())), "p.json");
      row.spoil(document);
      const Result<Profile> read = profile_from_json(document, "p.json");
      REQUIRE_FALSE(read.ok());
      CHECK(read.faults().front().where == "p.json#" + row.pointer);
    }
  }
}

}  // namespace
}  // namespace saturn::profile
