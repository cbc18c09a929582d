// What every drawing of a schedule asks of it.

#include "saturn/view/schedule.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace saturn::view {

double end_s(const Schedule& schedule) {
  double end = 0.0;
  for (const Bar& bar : schedule.bars) end = std::max(end, bar.start_s + bar.duration_s);
  return end;
}

std::vector<std::size_t> reading_order(const Schedule& schedule) {
  std::vector<std::size_t> order(schedule.bars.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
    const Bar& a = schedule.bars[left];
    const Bar& b = schedule.bars[right];
    if (a.start_s != b.start_s) return a.start_s < b.start_s;
    return a.lanes < b.lanes;
  });
  return order;
}

std::vector<std::string> job_keys(const Schedule& schedule) {
  constexpr std::size_t kLetters = 26;
  const std::size_t num_jobs = schedule.jobs.size();
  std::vector<std::string> keys(num_jobs);
  std::size_t given = 0;
  const auto give = [&](std::size_t job) {
    if (!keys[job].empty()) return;
    if (num_jobs > 2 * kLetters)
      keys[job] = std::to_string(given + 1);
    else
      keys[job] =
          given < kLetters ? static_cast<char>('a' + given) : static_cast<char>('A' + (given - kLetters));
    ++given;
  };
  for (const std::size_t bar : reading_order(schedule)) give(schedule.bars[bar].job);
  for (std::size_t job = 0; job < num_jobs; ++job) give(job);
  return keys;
}

std::string lanes_text(const Schedule& schedule, const std::vector<std::size_t>& lanes, bool with_node) {
  std::string text;
  for (std::size_t i = 0; i < lanes.size();) {
    const std::string& node = schedule.lanes[lanes[i]].node;
    if (with_node) text += (text.empty() ? "" : " ") + node + ":";
    bool first = true;
    while (i < lanes.size() && schedule.lanes[lanes[i]].node == node) {
      const int from = schedule.lanes[lanes[i]].device;
      int to = from;
      for (++i; i < lanes.size() && schedule.lanes[lanes[i]].node == node &&
                schedule.lanes[lanes[i]].device == to + 1;
           ++i)
        ++to;
      if (!first) text += ",";
      first = false;
      text += std::to_string(from);
      if (to > from) text += "-" + std::to_string(to);
    }
    if (!with_node && i < lanes.size()) return lanes_text(schedule, lanes, true);
  }
  return text;
}

bool single_node(const Schedule& schedule) {
  return std::all_of(schedule.lanes.begin(), schedule.lanes.end(),
                     [&](const Lane& lane) { return lane.node == schedule.lanes.front().node; });
}

std::string configuration_text(const Bar& bar) {
  std::string text = bar.technique + " x" + std::to_string(bar.lanes.size());
  if (bar.num_ranks > 0 && bar.num_ranks != static_cast<int>(bar.lanes.size()))
    text += " (" + std::to_string(bar.num_ranks) + (bar.num_ranks == 1 ? " rank)" : " ranks)");
  return text;
}

}  // namespace saturn::view
