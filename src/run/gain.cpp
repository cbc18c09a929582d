// What one plan gains over another where estimates may be off: both are played out in the same draws.

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "saturn/base/statistics.h"
#include "saturn/plan/carry_on.h"
#include "saturn/run/introspection.h"

namespace saturn::run {
namespace {

constexpr int kDraws = 200;

// A plan as numbers: entries in the order of their starts, with the devices that they wait for.
class Course {
 public:
  Course(const plan::PlanProblem& problem, const plan::Plan& plan, const std::vector<Spread>& spreads) {
    std::map<std::string, std::size_t> positions;
    for (std::size_t j = 0; j < problem.jobs.size(); ++j) positions[problem.jobs[j].name] = j;
    std::vector<const plan::Assignment*> by_start;
    for (const plan::Assignment& assignment : plan.assignments) by_start.push_back(&assignment);
    std::stable_sort(by_start.begin(), by_start.end(),
                     [](const auto* left, const auto* right) { return left->start_s < right->start_s; });
    std::map<std::pair<std::string, int>, std::size_t> devices;
    for (const plan::Assignment* const assignment : by_start) {
      const auto position = positions.find(assignment->job);
      SATURN_CHECK(position != positions.end(), "both plans are for this problem");
      const std::size_t j = position->second;
      const plan::Job& job = problem.jobs[j];
      const Spread spread = j < spreads.size() ? spreads[j] : Spread{};
      const bool stays = plan::goes_on(job, *assignment);
      Entry entry{.job = j, .release_s = job.release_s, .duration_s = assignment->duration_s};
      entry.common = stays ? 0.0 : spread.common;
      entry.own = stays ? spread.in_place : spread.own;
      entry.way = mix_text(stays ? 1 : 2, assignment->trial);
      for (const std::string& before : job.after) {
        if (const auto at = positions.find(before); at != positions.end()) entry.after.push_back(at->second);
      }
      for (const plan::Device& device : assignment->devices)
        entry.devices.push_back(
            devices.try_emplace({device.node, device.index}, devices.size()).first->second);
      entries_.push_back(std::move(entry));
    }
    free_at_s_.resize(devices.size());
    end_s_.resize(problem.jobs.size());
  }

  /// Of the draw; times of a job in one configuration are the same in every course.
  double makespan_s(std::uint64_t draw) {
    std::fill(free_at_s_.begin(), free_at_s_.end(), 0.0);
    std::fill(end_s_.begin(), end_s_.end(), 0.0);
    double makespan_s = 0.0;
    for (const Entry& entry : entries_) {
      double start_s = std::max(entry.release_s, end_s_[entry.job]);
      for (const std::size_t before : entry.after) start_s = std::max(start_s, end_s_[before]);
      for (const std::size_t device : entry.devices) start_s = std::max(start_s, free_at_s_[device]);
      const std::uint64_t key = mix_key(draw, entry.job);
      const double end_s = start_s + entry.duration_s * factor_of(entry.common, key) *
                                         factor_of(entry.own, mix_key(key, entry.way));
      for (const std::size_t device : entry.devices) free_at_s_[device] = end_s;
      end_s_[entry.job] = end_s;
      makespan_s = std::max(makespan_s, end_s);
    }
    return makespan_s;
  }

 private:
  struct Entry {
    std::size_t job = 0;
    double release_s = 0.0;
    double duration_s = 0.0;
    double common = 0.0;
    double own = 0.0;
    std::uint64_t way = 0;
    std::vector<std::size_t> after;
    std::vector<std::size_t> devices;
  };
  std::vector<Entry> entries_;
  std::vector<double> free_at_s_;
  std::vector<double> end_s_;
};

}  // namespace

Gain gain_of(const plan::PlanProblem& problem, const plan::Plan& present, const plan::Plan& other,
             const std::vector<Spread>& spreads) {
  Course of_present(problem, present, spreads);
  Course of_other(problem, other, spreads);
  std::vector<double> gains_s;
  for (std::uint64_t draw = 0; draw < kDraws; ++draw)
    gains_s.push_back(of_present.makespan_s(draw) - of_other.makespan_s(draw));
  std::sort(gains_s.begin(), gains_s.end());
  const auto mean = [&](std::size_t count) {
    return std::accumulate(gains_s.begin(), gains_s.begin() + static_cast<std::ptrdiff_t>(count), 0.0) /
           static_cast<double>(count);
  };
  return {.mean_s = mean(gains_s.size()), .worst_s = mean(gains_s.size() / 10)};
}

}  // namespace saturn::run
