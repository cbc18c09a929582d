// A job leaves its checkpoint under one configuration and goes on under another: its losses are those of a
// job that stayed. Configurations are what the techniques of this build propose for widths 1, 2 and 4.
//
// SATURN_SWITCH=all goes through every ordered pair; else each configuration is left once and entered once.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "saturn/batch/technique_spec.h"
#include "tests/train/attempt.h"

namespace saturn::testing {
namespace {

constexpr int kSteps = 8;
constexpr int kSwitchAt = 4;

constexpr const char* kKeys = "dropout = 0.1\n[job.optimizer]\nlr = 3e-3\nclip_norm = 1.0\n";

std::unique_ptr<Attempt> attempt_under(const batch::Configuration& configuration) {
  auto attempt = std::make_unique<Attempt>(kKeys);
  attempt->job.amount.value = kSteps;
  attempt->technique = configuration.technique;
  attempt->knobs = configuration.knobs;
  return attempt;
}

/// The best guess of each technique at each width.
std::vector<batch::Configuration> proposals() {
  const Attempt any(kKeys);
  std::vector<batch::Configuration> all;
  for (const batch::TechniqueSpec& spec : batch::technique_specs()) {
    for (const int width : {1, 2, 4}) {
      const batch::DeviceGroup devices{.num_devices = width};
      if (spec.refusal(any.job, devices)) continue;
      for (const batch::Configuration& candidate : spec.candidates(any.job, devices)) {
        if (candidate.num_devices != width) continue;
        all.push_back(candidate);
        break;
      }
    }
  }
  return all;
}

struct Left {
  std::unique_ptr<Attempt> attempt;  ///< owns the directory of the checkpoint
  std::string checkpoint;
  std::vector<double> losses;  ///< of every step: it went on to the end
};

Left leave(const batch::Configuration& configuration) {
  Left left{.attempt = attempt_under(configuration), .checkpoint = {}, .losses = {}};
  left.attempt->assign.checkpoint_every = kSwitchAt;
  const Told told = left.attempt->run_well(configuration.num_ranks);
  REQUIRE(told.checkpoints.size() == 1);
  REQUIRE(told.checkpoints[0].step == kSwitchAt);
  left.checkpoint = told.checkpoints[0].path;
  for (const worker::Step& step : told.steps) left.losses.push_back(step.loss);
  REQUIRE(left.losses.size() == kSteps);
  REQUIRE(left.losses.front() - left.losses.back() > 0.05);
  return left;
}

void enter(const Left& left, const batch::Configuration& configuration) {
  const std::unique_ptr<Attempt> attempt = attempt_under(configuration);
  attempt->assign.resume_from = left.checkpoint;
  attempt->assign.from_step = kSwitchAt;
  const Told told = attempt->run_well(configuration.num_ranks);
  REQUIRE(told.steps.size() == kSteps - kSwitchAt);
  for (std::size_t i = 0; i < told.steps.size(); ++i) {
    const double want = left.losses[i + kSwitchAt];
    CHECK(std::abs(told.steps[i].loss - want) <= 1e-5 * want);
  }
}

}  // namespace

TEST_SUITE("switch") {
  TEST_CASE("train/switch: a job goes on under any other configuration as if it had stayed") {
    const char* const asked = std::getenv("SATURN_SWITCH");
    const bool every_pair = asked != nullptr && std::string(asked) == "all";
    const std::vector<batch::Configuration> all = proposals();
    std::set<std::string> techniques;
    for (const batch::Configuration& configuration : all) techniques.insert(configuration.technique);
    for (const batch::TechniqueSpec& spec : batch::technique_specs()) CHECK(techniques.contains(spec.name));
    REQUIRE(techniques.size() >= 2);
    // A stride of about half the list leads from each technique to another, and visits every one.
    const std::size_t stride = all.size() / 2;
    for (std::size_t from = 0; from < all.size(); ++from) {
      CAPTURE(batch::to_text(all[from]));
      const Left left = leave(all[from]);
      for (std::size_t to = 0; to < all.size(); ++to) {
        if (!every_pair && to != (from + stride) % all.size()) continue;
        CAPTURE(batch::to_text(all[to]));
        enter(left, all[to]);
      }
    }
  }
}

}  // namespace saturn::testing
