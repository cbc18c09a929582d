// The independent check. It shares nothing with the solver but the types, so a fault in one cannot hide in
// the other: times, places and orders are derived again from the problem.

#include "saturn/plan/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

namespace saturn::plan {
namespace {

// Times are sums of measured seconds, added in another order than the solver did.
bool later(double a, double b) {
  return a > b + 1e-6 * std::max(1.0, std::abs(b));
}
bool differ(double a, double b) {
  return later(a, b) || later(b, a);
}

std::string seconds(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

class Checker {
 public:
  Checker(const PlanProblem* problem, const Plan& plan, const std::string& name)
      : problem_(problem), plan_(plan), name_(name) {
    if (problem_ == nullptr) return;
    for (const Node& node : problem_->nodes) nodes_.emplace(node.name, &node);
    for (const Job& job : problem_->jobs) jobs_.emplace(job.name, &job);
  }

  Diagnostics run() {
    for (std::size_t a = 0; a < plan_.assignments.size(); ++a) check_assignment(a);
    check_segments();
    check_devices();
    if (problem_ != nullptr) {
      check_outages();
      check_memory();
      check_order();
      check_cost();
    }
    check_totals();
    return std::move(faults_);
  }

 private:
  void fault(const std::string& pointer, std::string what, std::string expected) {
    if (faults_.size() >= 100) return;
    faults_.push_back({.where = name_ + "#" + pointer,
                       .what = std::move(what),
                       .expected = std::move(expected),
                       .fix = "make the plan again with `saturn plan`"});
  }
  void fault_at(std::size_t a, const char* key, const std::string& what, std::string expected) {
    fault("/assignments/" + std::to_string(a) + (key[0] == '\0' ? "" : "/") + key,
          "job " + in_quotes(plan_.assignments[a].job) + ": " + what, std::move(expected));
  }

  const Node* node_of(const std::string& name) const {
    const auto it = nodes_.find(name);
    return it == nodes_.end() ? nullptr : it->second;
  }

  void check_assignment(std::size_t a) {
    const Assignment& assignment = plan_.assignments[a];
    if (!std::isfinite(assignment.start_s) || assignment.start_s < -1e-6) {
      fault_at(a, "start_s", "starts at " + seconds(assignment.start_s) + " s", "a finite time from 0");
    }
    if (!std::isfinite(assignment.duration_s) || assignment.duration_s < 0.0) {
      fault_at(a, "duration_s", "lasts " + seconds(assignment.duration_s) + " s", "a finite time from 0");
    }
    if (assignment.to_step < assignment.from_step) {
      fault_at(a, "to_step", "ends before its first step", "at least from_step");
    }
    if (assignment.num_ranks < 1) fault_at(a, "num_ranks", "has no rank", "at least 1");
    check_places(a);
    if (problem_ == nullptr) return;
    const auto job = jobs_.find(assignment.job);
    if (job == jobs_.end()) {
      fault_at(a, "job", "no such job in the problem", "one of its jobs");
      return;
    }
    if (assignment.start_s < job->second->release_s && later(job->second->release_s, assignment.start_s)) {
      fault_at(a, "start_s", "starts before its release at " + seconds(job->second->release_s) + " s",
               "a start not before it");
    }
    if (job->second->deadline_s && later(assignment.end_s(), *job->second->deadline_s)) {
      fault_at(a, "duration_s", "ends after its deadline at " + seconds(*job->second->deadline_s) + " s",
               "an end not after it");
    }
  }

  void check_places(std::size_t a) {
    const Assignment& assignment = plan_.assignments[a];
    if (assignment.devices.empty()) {
      fault_at(a, "devices", "has no device", "at least one");
      return;
    }
    std::vector<Device> devices = assignment.devices;
    std::sort(devices.begin(), devices.end(), [](const Device& left, const Device& right) {
      return left.node != right.node ? left.node < right.node : left.index < right.index;
    });
    if (std::adjacent_find(devices.begin(), devices.end()) != devices.end()) {
      fault_at(a, "devices", "a device is listed twice", "different devices");
    }
    if (problem_ == nullptr) return;
    const Node* first = node_of(assignment.node);
    if (first == nullptr) {
      fault_at(a, "node", "node " + in_quotes(assignment.node) + " does not exist", "one of the nodes");
      return;
    }
    for (const Device& device : devices) {
      const Node* node = node_of(device.node);
      if (node == nullptr || device.index < 0 || device.index >= node->num_devices) {
        fault_at(a, "devices",
                 "device " + device.node + ":" + std::to_string(device.index) + " does not exist",
                 "devices of the nodes");
        return;
      }
      if (node->device_class != first->device_class) {
        fault_at(a, "devices", "devices of more than one class", "one class");
        return;
      }
      if (device.node != assignment.node) {
        fault_at(a, "devices", "devices of more than one node",
                 "devices of node " + in_quotes(assignment.node));
        return;
      }
    }
    if (first->shares_per_gpu > 1 && assignment.num_ranks >= 1) check_shares(a, *first);
  }

  // Every rank owns an equal number of slots of one GPU, and no two ranks the same GPU.
  void check_shares(std::size_t a, const Node& node) {
    const Assignment& assignment = plan_.assignments[a];
    std::map<int, int> slots_of_gpu;
    for (const Device& device : assignment.devices) ++slots_of_gpu[device.index / node.shares_per_gpu];
    const int per_rank = static_cast<int>(assignment.devices.size()) / assignment.num_ranks;
    const bool even = std::all_of(slots_of_gpu.begin(), slots_of_gpu.end(),
                                  [&](const auto& entry) { return entry.second == per_rank; });
    if (!even || static_cast<int>(slots_of_gpu.size()) != assignment.num_ranks) {
      fault_at(
          a, "devices", "its ranks do not own one GPU's slots each",
          std::to_string(assignment.num_ranks) + " GPUs with " + std::to_string(per_rank) + " slots each");
    }
  }

  // The segments of a job cover its steps in order, each in the time its configuration needs.
  void check_segments() {
    std::map<std::string, std::vector<std::size_t>> segments;
    for (std::size_t a = 0; a < plan_.assignments.size(); ++a)
      segments[plan_.assignments[a].job].push_back(a);
    for (auto& [name, list] : segments) {
      std::sort(list.begin(), list.end(), [&](std::size_t left, std::size_t right) {
        return plan_.assignments[left].segment < plan_.assignments[right].segment;
      });
      for (std::size_t k = 0; k < list.size(); ++k) {
        const Assignment& one = plan_.assignments[list[k]];
        if (one.segment != static_cast<int>(k)) {
          fault_at(list[k], "segment", "is segment " + std::to_string(one.segment),
                   "segment " + std::to_string(k));
        }
        if (k == 0) continue;
        const Assignment& before = plan_.assignments[list[k - 1]];
        if (one.from_step != before.to_step) {
          fault_at(list[k], "from_step", "starts at step " + std::to_string(one.from_step),
                   "step " + std::to_string(before.to_step) + ", where the segment before ends");
        }
        if (later(before.end_s(), one.start_s)) {
          fault_at(list[k], "start_s", "starts before its segment before ends", "segments one after another");
        }
      }
      const auto job = jobs_.find(name);
      if (job != jobs_.end()) check_times(*job->second, list);
    }
    if (problem_ == nullptr) return;
    for (const Job& job : problem_->jobs) {
      if (segments.find(job.name) == segments.end()) {
        fault("/assignments", "job " + in_quotes(job.name) + " is not placed", "every job once");
      }
    }
  }

  void check_times(const Job& job, const std::vector<std::size_t>& list) {
    const Assignment& first = plan_.assignments[list.front()];
    const Assignment& last = plan_.assignments[list.back()];
    if (first.from_step != job.first_step) {
      fault_at(list.front(), "from_step", "starts at step " + std::to_string(first.from_step),
               "step " + std::to_string(job.first_step));
    }
    if (last.to_step != job.last_step) {
      fault_at(list.back(), "to_step", "ends at step " + std::to_string(last.to_step),
               "step " + std::to_string(job.last_step));
    }
    for (std::size_t k = 0; k < list.size(); ++k) check_time(job, list[k], k == 0);
    if (job.running && !job.running->may_move && !goes_on(job, first)) {
      fault_at(list.front(), "", "runs and may not be moved", "its own devices and configuration from 0 s");
    }
  }

  bool goes_on(const Job& job, const Assignment& assignment) const {
    const Running& running = *job.running;
    const Configuration& configuration = job.configurations[running.configuration];
    if (assignment.node != running.node || later(assignment.start_s, 0.0)) return false;
    if (assignment.technique != configuration.technique || assignment.num_ranks != configuration.num_ranks ||
        assignment.trial != configuration.trial || assignment.knobs != configuration.knobs) {
      return false;
    }
    std::vector<int> have;
    for (const Device& device : assignment.devices) have.push_back(device.index);
    std::vector<int> want = running.devices;
    std::sort(have.begin(), have.end());
    std::sort(want.begin(), want.end());
    return have == want;
  }

  void check_time(const Job& job, std::size_t a, bool first) {
    const Assignment& assignment = plan_.assignments[a];
    const Configuration* configuration = configuration_of(job, *problem_, assignment);
    if (configuration == nullptr) {
      fault_at(a, "technique",
               "has no configuration " + assignment.technique + " with " +
                   std::to_string(assignment.devices.size()) + " devices and " +
                   std::to_string(assignment.num_ranks) + " ranks on this class",
               "one of its configurations");
      return;
    }
    const double all = static_cast<double>(job.last_step - job.first_step);
    const double part = static_cast<double>(assignment.to_step - assignment.from_step);
    const double share = all > 0.0 ? part / all : 1.0;
    const bool on = first && job.running && goes_on(job, assignment);
    const double want_s =
        on ? job.running->remaining_s * share : configuration->start_cost_s + configuration->time_s * share;
    if (differ(assignment.duration_s, want_s)) {
      fault_at(a, "duration_s", "lasts " + seconds(assignment.duration_s) + " s",
               seconds(want_s) + " s, as its configuration needs");
    }
  }

  struct Use {
    std::string node;
    int index;
    double from_s;
    double to_s;
    std::size_t assignment;
  };

  void check_devices() {
    std::vector<Use> uses;
    for (std::size_t a = 0; a < plan_.assignments.size(); ++a) {
      const Assignment& assignment = plan_.assignments[a];
      for (const Device& device : assignment.devices) {
        uses.push_back({device.node, device.index, assignment.start_s, assignment.end_s(), a});
      }
    }
    std::sort(uses.begin(), uses.end(), [](const Use& left, const Use& right) {
      if (left.node != right.node) return left.node < right.node;
      if (left.index != right.index) return left.index < right.index;
      if (left.from_s != right.from_s) return left.from_s < right.from_s;
      return left.to_s < right.to_s;
    });
    // Remembering the use that ends last catches one that lies inside another.
    std::size_t longest = 0;
    for (std::size_t u = 1; u < uses.size(); ++u) {
      if (uses[u].node != uses[longest].node || uses[u].index != uses[longest].index) {
        longest = u;
        continue;
      }
      if (later(uses[longest].to_s, uses[u].from_s) && uses[u].to_s > uses[u].from_s) {
        fault_at(uses[u].assignment, "start_s",
                 "starts at " + seconds(uses[u].from_s) + " s on device " + uses[u].node + ":" +
                     std::to_string(uses[u].index) + ", which " +
                     in_quotes(plan_.assignments[uses[longest].assignment].job) + " holds until " +
                     seconds(uses[longest].to_s) + " s",
                 "one job on a device at a time");
      }
      if (uses[u].to_s > uses[longest].to_s) longest = u;
    }
  }

  void check_outages() {
    for (std::size_t a = 0; a < plan_.assignments.size(); ++a) {
      const Assignment& assignment = plan_.assignments[a];
      const Node* node = node_of(assignment.node);
      if (node == nullptr) continue;
      for (const Outage& outage : node->outages) {
        const bool touches =
            outage.devices.empty() ||
            std::any_of(assignment.devices.begin(), assignment.devices.end(), [&](const Device& device) {
              return std::find(outage.devices.begin(), outage.devices.end(), device.index) !=
                     outage.devices.end();
            });
        if (touches && later(assignment.end_s(), outage.from_s) && later(outage.to_s, assignment.start_s)) {
          fault_at(a, "devices",
                   "uses a device that is missing from " + seconds(outage.from_s) + " s to " +
                       seconds(outage.to_s) + " s",
                   "devices that are there");
        }
      }
    }
  }

  // At every start, what runs on the node fits into its host memory and disk.
  void check_memory() {
    for (const Node& node : problem_->nodes) {
      if (!node.host_memory_bytes && !node.disk_bytes) continue;
      struct Change {
        double time_s;
        double memory;
        double disk;
        std::size_t assignment;
      };
      std::vector<Change> changes;
      for (std::size_t a = 0; a < plan_.assignments.size(); ++a) {
        const Assignment& assignment = plan_.assignments[a];
        const auto job = jobs_.find(assignment.job);
        if (assignment.node != node.name || job == jobs_.end()) continue;
        const Configuration* configuration = configuration_of(*job->second, *problem_, assignment);
        if (configuration == nullptr) continue;
        const auto memory = static_cast<double>(configuration->host_memory_bytes);
        const auto disk = static_cast<double>(configuration->disk_bytes);
        const double slack = 1e-6 * std::max(1.0, assignment.end_s());
        if (assignment.duration_s <= slack) continue;
        changes.push_back({assignment.start_s, memory, disk, a});
        changes.push_back({assignment.end_s() - slack, -memory, -disk, a});
      }
      std::sort(changes.begin(), changes.end(), [](const Change& left, const Change& right) {
        return left.time_s != right.time_s ? left.time_s < right.time_s
                                           : left.memory + left.disk < right.memory + right.disk;
      });
      double memory = 0.0;
      double disk = 0.0;
      for (const Change& change : changes) {
        memory += change.memory;
        disk += change.disk;
        if (node.host_memory_bytes && memory > static_cast<double>(*node.host_memory_bytes)) {
          fault_at(
              change.assignment, "node",
              "the jobs running with it need more host memory than node " + in_quotes(node.name) + " has",
              "at most " + std::to_string(*node.host_memory_bytes) + " bytes");
          break;
        }
        if (node.disk_bytes && disk > static_cast<double>(*node.disk_bytes)) {
          fault_at(change.assignment, "node",
                   "the jobs running with it need more disk than node " + in_quotes(node.name) + " has",
                   "at most " + std::to_string(*node.disk_bytes) + " bytes");
          break;
        }
      }
    }
  }

  void check_order() {
    std::unordered_map<std::string, double> ends;
    for (const Assignment& assignment : plan_.assignments) {
      double& end = ends[assignment.job];
      end = std::max(end, assignment.end_s());
    }
    for (std::size_t a = 0; a < plan_.assignments.size(); ++a) {
      const auto job = jobs_.find(plan_.assignments[a].job);
      if (job == jobs_.end()) continue;
      for (const std::string& before : job->second->after) {
        const auto end = ends.find(before);
        if (end != ends.end() && later(end->second, plan_.assignments[a].start_s)) {
          fault_at(a, "start_s",
                   "starts before job " + in_quotes(before) + " ends at " + seconds(end->second) + " s",
                   "a start not before it");
        }
      }
    }
  }

  void check_cost() {
    double cost = 0.0;
    for (const Assignment& assignment : plan_.assignments) {
      for (const Device& device : assignment.devices) {
        if (const Node* node = node_of(device.node))
          cost += node->price_per_device_hour * assignment.duration_s / 3600.0;
      }
    }
    if (differ(plan_.cost, cost)) {
      fault("/cost", "the cost is " + seconds(plan_.cost), seconds(cost) + ", the price of the devices held");
    }
    if (problem_->objective == Objective::makespan_under_cost && problem_->cost_limit &&
        later(cost, *problem_->cost_limit)) {
      fault("/cost", "the plan costs " + seconds(cost), "at most " + seconds(*problem_->cost_limit));
    }
  }

  void check_totals() {
    double makespan = 0.0;
    for (const Assignment& assignment : plan_.assignments) makespan = std::max(makespan, assignment.end_s());
    if (!std::isfinite(plan_.makespan_s) || differ(plan_.makespan_s, makespan)) {
      fault("/makespan_s", "the makespan is " + seconds(plan_.makespan_s) + " s",
            seconds(makespan) + " s, where the last job ends");
    }
    if (!std::isfinite(plan_.lower_bound_s) || later(plan_.lower_bound_s, makespan)) {
      fault("/lower_bound_s", "the lower bound is " + seconds(plan_.lower_bound_s) + " s",
            "at most the makespan of this plan");
    }
    if (plan_.objective == Objective::makespan && differ(plan_.objective_value, makespan)) {
      fault("/objective_value", "the objective is " + seconds(plan_.objective_value), "the makespan");
    }
    if (!std::isfinite(plan_.objective_bound) || later(plan_.objective_bound, plan_.objective_value)) {
      fault("/objective_bound", "the bound is " + seconds(plan_.objective_bound),
            "at most the objective's value");
    }
    if (plan_.status == Status::optimal && later(plan_.objective_value, plan_.objective_bound)) {
      fault("/status", "says optimal", "a bound that meets the objective's value");
    }
  }

  const PlanProblem* problem_;
  const Plan& plan_;
  const std::string& name_;
  Diagnostics faults_;
  std::unordered_map<std::string, const Node*> nodes_;
  std::unordered_map<std::string, const Job*> jobs_;
};

}  // namespace

Diagnostics check(const PlanProblem& problem, const Plan& plan, const std::string& name) {
  return Checker(&problem, plan, name).run();
}

Diagnostics check_alone(const Plan& plan, const std::string& name) {
  return Checker(nullptr, plan, name).run();
}

}  // namespace saturn::plan
