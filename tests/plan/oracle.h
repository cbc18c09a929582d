// The best makespan by trying everything: orders, configurations and sets of devices, under releases, order
// and host memory. Shares nothing with the planner but the types.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "saturn/plan/problem.h"

namespace saturn::plan::testing {

class Oracle {
 public:
  explicit Oracle(const PlanProblem& problem) : problem_(problem) {
    for (const Node& node : problem.nodes)
      free_s_.emplace_back(static_cast<std::size_t>(node.num_devices), 0.0);
    end_s_.assign(problem.jobs.size(), -1.0);
  }

  double makespan_s() {
    place(0, 0.0);
    return best_s_;
  }

 private:
  struct Held {
    std::size_t node;
    double start_s;
    double end_s;
    std::int64_t memory_bytes;
  };

  // The first start from `from_s` at which the node's host memory holds for the whole time.
  double with_memory(std::size_t n, const Configuration& configuration, double from_s, double time_s) const {
    if (!problem_.nodes[n].host_memory_bytes) return from_s;
    std::vector<double> starts = {from_s};
    for (const Held& held : held_) {
      if (held.node == n && held.end_s > from_s) starts.push_back(held.end_s);
    }
    std::sort(starts.begin(), starts.end());
    for (const double start_s : starts) {
      // Usage can only rise where a job starts.
      std::vector<double> moments = {start_s};
      for (const Held& held : held_) {
        if (held.start_s > start_s && held.start_s < start_s + time_s) moments.push_back(held.start_s);
      }
      const bool holds = std::all_of(moments.begin(), moments.end(), [&](double moment_s) {
        std::int64_t bytes = configuration.host_memory_bytes;
        for (const Held& held : held_) {
          if (held.node == n && held.start_s <= moment_s && held.end_s > moment_s) bytes += held.memory_bytes;
        }
        return bytes <= *problem_.nodes[n].host_memory_bytes;
      });
      if (holds) return start_s;
    }
    return std::numeric_limits<double>::infinity();
  }

  void place(std::size_t placed, double makespan_s) {
    if (makespan_s >= best_s_) return;
    if (placed == problem_.jobs.size()) {
      best_s_ = makespan_s;
      return;
    }
    for (std::size_t j = 0; j < problem_.jobs.size(); ++j) {
      if (end_s_[j] >= 0.0) continue;
      const Job& job = problem_.jobs[j];
      double ready_s = job.release_s;
      bool waits = false;
      for (const std::string& name : job.after) {
        for (std::size_t b = 0; b < problem_.jobs.size(); ++b) {
          if (problem_.jobs[b].name != name) continue;
          waits |= end_s_[b] < 0.0;
          ready_s = std::max(ready_s, end_s_[b]);
        }
      }
      if (waits) continue;
      for (const Configuration& configuration : job.configurations) {
        for (std::size_t n = 0; n < problem_.nodes.size(); ++n) {
          if (problem_.nodes[n].device_class != configuration.device_class) continue;
          const int devices = problem_.nodes[n].num_devices;
          for (int set = 1; set < 1 << devices; ++set) {
            if (__builtin_popcount(static_cast<unsigned>(set)) != configuration.num_devices) continue;
            double start_s = ready_s;
            for (int d = 0; d < devices; ++d) {
              if ((set >> d & 1) != 0) start_s = std::max(start_s, free_s_[n][static_cast<std::size_t>(d)]);
            }
            const double time_s = configuration.start_cost_s + configuration.time_s;
            start_s = with_memory(n, configuration, start_s, time_s);
            if (start_s == std::numeric_limits<double>::infinity()) continue;
            const double end_s = start_s + time_s;
            const std::vector<double> before = free_s_[n];
            for (int d = 0; d < devices; ++d) {
              if ((set >> d & 1) != 0) free_s_[n][static_cast<std::size_t>(d)] = end_s;
            }
            end_s_[j] = end_s;
            held_.push_back({n, start_s, end_s, configuration.host_memory_bytes});
            place(placed + 1, std::max(makespan_s, end_s));
            held_.pop_back();
            end_s_[j] = -1.0;
            free_s_[n] = before;
          }
        }
      }
    }
  }

  const PlanProblem& problem_;
  std::vector<std::vector<double>> free_s_;
  std::vector<double> end_s_;
  std::vector<Held> held_;
  double best_s_ = std::numeric_limits<double>::infinity();
};

}  // namespace saturn::plan::testing
