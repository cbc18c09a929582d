// How two trainings of one job are held against each other.

#pragma once

#include <string>
#include <vector>

#include "tests/techniques/group.h"

namespace saturn::testing {

/// A run whose ranks all end well.
GroupResult run_well(const GroupRun& run);

/// The same job under a technique: a line of every table of them.
struct Way {
  std::string technique = "single";
  int num_ranks = 1;
  Json knobs = Json::object();
};
std::string to_text(const Way& way);
GroupRun in_way(GroupRun run, const Way& way);
GroupRun with_steps(GroupRun run, int num_steps);

double norm(const std::vector<float>& values);
double distance(const std::vector<float>& a, const std::vector<float>& b);

/// Largest difference of any tensor of `role` relative to its norm.
double largest_difference(const GroupResult& want, const GroupResult& got, const std::string& role);
/// Of any step's loss, relative.
double largest_loss_difference(const GroupResult& want, const GroupResult& got);
/// Of any tensor's total update, relative to the update's norm. `start` has trained no step.
double largest_update_difference(const GroupResult& start, const GroupResult& want, const GroupResult& got);

/// Of the update of every weight, relative to its norm. Where the true gradient is zero, as of the keys'
/// biases, rounding alone moves a weight, and it is left out.
double largest_moved_difference(const GroupResult& start, const GroupResult& want, const GroupResult& got);

}  // namespace saturn::testing
