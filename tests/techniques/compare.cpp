// Differences of trainings, tensor by tensor.

#include "tests/techniques/compare.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace saturn::testing {

GroupResult run_well(const GroupRun& run) {
  GroupResult result = run_group(run);
  for (const std::string& error : result.errors) REQUIRE(error == "");
  REQUIRE(static_cast<int>(result.losses.size()) <= run.num_steps);
  return result;
}

std::string to_text(const Way& way) {
  return way.technique + " x" + std::to_string(way.num_ranks) + " " + to_line(way.knobs);
}

GroupRun in_way(GroupRun run, const Way& way) {
  run.technique = way.technique;
  run.num_ranks = way.num_ranks;
  run.knobs = way.knobs;
  return run;
}

GroupRun with_steps(GroupRun run, int num_steps) {
  run.num_steps = num_steps;
  return run;
}

double norm(const std::vector<float>& values) {
  double sum = 0.0;
  for (float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

double largest_difference(const GroupResult& want, const GroupResult& got, const std::string& role) {
  double largest = 0.0;
  int compared = 0;
  for (const auto& [name, values] : want.state) {
    if (!name.starts_with(role + "/")) continue;
    ++compared;
    const double size = norm(values);  // zero where a gradient is, such as behind a norm that begins at zero
    const double difference = distance(values, got.state.at(name)) / (size > 0.0 ? size : 1.0);
    REQUIRE(std::isfinite(difference));  // a piece that no rank holds is not a number
    largest = std::max(largest, difference);
  }
  REQUIRE(compared > 0);
  REQUIRE(want.state.size() == got.state.size());
  return largest;
}

double largest_loss_difference(const GroupResult& want, const GroupResult& got) {
  REQUIRE(want.losses.size() == got.losses.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < want.losses.size(); ++i)
    largest = std::max(largest, std::abs(want.losses[i] - got.losses[i]) / want.losses[i]);
  return largest;
}

double largest_update_difference(const GroupResult& start, const GroupResult& want, const GroupResult& got) {
  double largest = 0.0;
  for (const auto& [name, before] : start.state) {
    if (!name.starts_with("weight/")) continue;
    const double update = distance(want.state.at(name), before);
    REQUIRE(update > 0.0);
    const double difference = distance(want.state.at(name), got.state.at(name)) / update;
    REQUIRE(std::isfinite(difference));
    largest = std::max(largest, difference);
  }
  return largest;
}

double largest_moved_difference(const GroupResult& start, const GroupResult& want, const GroupResult& got) {
  double largest = 0.0;
  for (const auto& [name, before] : start.state) {
    if (!name.starts_with("weight/")) continue;
    const auto& wanted = want.state.at(name);
    const auto& found = got.state.at(name);
    const std::size_t third = before.size() / 3;
    const bool of_qkv = name.ends_with("attn.c_attn.bias") || name.ends_with("attn.qkv.bias");
    double update = 0.0, difference = 0.0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (of_qkv && i / third == 1) continue;
      update += std::pow(static_cast<double>(wanted[i]) - before[i], 2);
      difference += std::pow(static_cast<double>(wanted[i]) - found[i], 2);
    }
    CAPTURE(name);
    REQUIRE(update > 0.0);
    largest = std::max(largest, std::sqrt(difference / update));
  }
  return largest;
}

}  // namespace saturn::testing
