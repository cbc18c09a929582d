// What makes a problem meaningless or unsolvable, found before any solver starts.

#include "saturn/plan/problem.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "plan/fit.h"
#include "plan/validate.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn::plan {
namespace {

constexpr const char* kObjectives[] = {"makespan", "mean_completion", "cost", "makespan_under_cost"};

class Validator {
 public:
  Validator(const PlanProblem& problem, const Words& words) : problem_(problem), words_(words) {}

  Diagnostics run() {
    check_nodes();
    check_jobs();
    check_order();
    if (problem_.cost_limit && !(*problem_.cost_limit >= 0.0)) {
      fault("/cost_limit", "the cost limit is " + format_number(*problem_.cost_limit), "a number from 0");
    }
    if (problem_.objective == Objective::makespan_under_cost && !problem_.cost_limit) {
      fault("/cost_limit", "the objective makespan_under_cost has no cost limit", "a number from 0");
    }
    // Only a problem that means something can be said to fit or not.
    if (faults_.empty()) check_fit();
    return std::move(faults_);
  }

 private:
  void fault(const std::string& pointer, std::string what, std::string expected, std::string fix = "",
             Kind kind = Kind::input) {
    faults_.push_back({.kind = kind,
                       .where = problem_.name + "#" + pointer,
                       .what = std::move(what),
                       .expected = std::move(expected),
                       .fix = std::move(fix)});
  }

  void check_time(const std::string& pointer, const std::string& owner, double seconds) {
    if (std::isfinite(seconds) && seconds >= 0.0 && seconds <= kLongestTime_s) return;
    fault(pointer, owner + ": " + std::to_string(seconds) + " seconds", "a number from 0 to 1e15");
  }

  void check_nodes() {
    std::unordered_map<std::string, std::size_t> seen;
    if (problem_.nodes.empty() && !problem_.jobs.empty()) {
      fault("/nodes", "there is no node", "at least one node with at least one device");
    }
    for (std::size_t n = 0; n < problem_.nodes.size(); ++n) {
      const Node& node = problem_.nodes[n];
      const std::string at = "/nodes/" + std::to_string(n);
      if (node.name.empty()) fault(at + "/name", "the node's name is empty", "a name");
      if (!seen.emplace(node.name, n).second) {
        fault(at + "/name", "node " + in_quotes(node.name) + " appears twice", "a name of its own",
              "rename this node or remove it");
      }
      if (node.num_devices < 1 || node.num_devices > kMostDevices) {
        fault(at + "/" + words_.node_devices,
              "node " + in_quotes(node.name) + " has " + std::to_string(node.num_devices) + " devices",
              "1 to " + std::to_string(kMostDevices));
        continue;
      }
      if (node.shares_per_gpu < 1 || node.num_devices % node.shares_per_gpu != 0) {
        fault(at + "/shares_per_gpu",
              "node " + in_quotes(node.name) + ": " + std::to_string(node.num_devices) +
                  " devices cannot be shares of GPUs with " + std::to_string(node.shares_per_gpu) + " each",
              "a divisor of the number of devices");
      }
      if (!(node.price_per_device_hour >= 0.0) || !std::isfinite(node.price_per_device_hour)) {
        fault(at + "/price_per_device_hour", "the price is not a number from 0", "a finite number from 0");
      }
      for (std::size_t o = 0; o < node.outages.size(); ++o) {
        const Outage& outage = node.outages[o];
        const std::string where = at + "/outages/" + std::to_string(o);
        if (!(outage.from_s >= 0.0) || !(outage.to_s >= outage.from_s)) {
          fault(where, "the outage does not end after it starts", "0 <= from_s <= to_s");
        }
        for (const int device : outage.devices) {
          if (device < 0 || device >= node.num_devices) {
            fault(where + "/devices",
                  "node " + in_quotes(node.name) + " has no device " + std::to_string(device),
                  "0 to " + std::to_string(node.num_devices - 1));
          }
        }
      }
    }
  }

  void check_jobs() {
    for (std::size_t j = 0; j < problem_.jobs.size(); ++j) {
      const Job& job = problem_.jobs[j];
      const std::string at = "/jobs/" + std::to_string(j);
      const std::string owner = "job " + in_quotes(job.name);
      if (job.name.empty()) fault(at + "/name", "the job's name is empty", "a name");
      if (!job_index_.emplace(job.name, j).second) {
        fault(at + "/name", owner + " appears twice", "a name of its own", "rename this job or remove it");
      }
      check_time(at + "/release_s", owner, job.release_s);
      if (job.deadline_s) check_time(at + "/deadline_s", owner, *job.deadline_s);
      if (!std::isfinite(job.priority) || job.priority < 0.0) {
        fault(at + "/priority", owner + ": the priority is not a number from 0", "a finite number from 0");
      }
      if (job.last_step < job.first_step) {
        fault(at + "/last_step", owner + " ends before its first step", "at least first_step");
      }
      for (std::size_t c = 0; c < job.configurations.size(); ++c) {
        check_configuration(at + "/" + words_.configurations + "/" + std::to_string(c), owner,
                            job.configurations[c]);
      }
      if (job.configurations.empty()) {
        fault(at + "/" + words_.configurations, owner + " has no configuration", "at least one", "",
              Kind::infeasible);
      }
      if (job.running) check_running(at + "/running", owner, job);
    }
  }

  void check_configuration(const std::string& at, const std::string& owner,
                           const Configuration& configuration) {
    check_time(at + "/" + words_.time, owner, configuration.time_s);
    check_time(at + "/start_cost_s", owner, configuration.start_cost_s);
    if (configuration.num_devices < 1) {
      fault(at + "/" + words_.devices,
            owner + " asks for " + std::to_string(configuration.num_devices) + " devices", "at least 1");
    } else if (configuration.num_ranks < 1 || configuration.num_devices % configuration.num_ranks != 0) {
      fault(at + "/" + words_.ranks,
            owner + ": " + std::to_string(configuration.num_ranks) + " ranks cannot share " +
                std::to_string(configuration.num_devices) + " devices evenly",
            "a divisor of the number of devices");
    }
    if (configuration.host_memory_bytes < 0)
      fault(at + "/host_memory_bytes", owner + ": negative", "at least 0");
    if (configuration.disk_bytes < 0) fault(at + "/disk_bytes", owner + ": negative", "at least 0");
  }

  void check_running(const std::string& at, const std::string& owner, const Job& job) {
    const Running& running = *job.running;
    check_time(at + "/remaining_s", owner, running.remaining_s);
    if (running.configuration < 0 || running.configuration >= static_cast<int>(job.configurations.size())) {
      fault(at + "/configuration", owner + " runs a configuration it does not have",
            "a position in its list");
      return;
    }
    const auto node = std::find_if(problem_.nodes.begin(), problem_.nodes.end(),
                                   [&](const Node& one) { return one.name == running.node; });
    if (node == problem_.nodes.end()) {
      fault(at + "/node", owner + " runs on node " + in_quotes(running.node) + ", which does not exist",
            "one of the nodes");
      return;
    }
    const Configuration& configuration = job.configurations[running.configuration];
    std::vector<int> devices = running.devices;
    std::sort(devices.begin(), devices.end());
    const bool distinct = std::adjacent_find(devices.begin(), devices.end()) == devices.end();
    if (static_cast<int>(devices.size()) != configuration.num_devices || !distinct || devices.empty() ||
        devices.front() < 0 || devices.back() >= node->num_devices ||
        configuration.device_class != node->device_class) {
      fault(
          at + "/devices", owner + " does not run on the devices of its configuration",
          std::to_string(configuration.num_devices) + " different devices of node " + in_quotes(node->name));
    }
  }

  // `after` names jobs that exist, and no job waits for itself.
  void check_order() {
    std::vector<std::string> names;
    for (const Job& job : problem_.jobs) {
      if (!job.after.empty()) {
        for (const Job& one : problem_.jobs) names.push_back(one.name);
        break;
      }
    }
    std::vector<int> waits(problem_.jobs.size(), 0);
    std::vector<std::vector<std::size_t>> followers(problem_.jobs.size());
    for (std::size_t j = 0; j < problem_.jobs.size(); ++j) {
      for (std::size_t a = 0; a < problem_.jobs[j].after.size(); ++a) {
        const std::string& before = problem_.jobs[j].after[a];
        const auto it = job_index_.find(before);
        if (it == job_index_.end()) {
          fault("/jobs/" + std::to_string(j) + "/after/" + std::to_string(a),
                "job " + in_quotes(problem_.jobs[j].name) + " waits for job " + in_quotes(before) +
                    ", which does not exist",
                "the name of a job", did_you_mean(before, names));
          continue;
        }
        followers[it->second].push_back(j);
        ++waits[j];
      }
    }
    std::vector<std::size_t> ready;
    for (std::size_t j = 0; j < waits.size(); ++j) {
      if (waits[j] == 0) ready.push_back(j);
    }
    std::size_t done = 0;
    while (!ready.empty()) {
      const std::size_t j = ready.back();
      ready.pop_back();
      ++done;
      for (const std::size_t f : followers[j]) {
        if (--waits[f] == 0) ready.push_back(f);
      }
    }
    if (done == waits.size()) return;
    for (std::size_t j = 0; j < waits.size(); ++j) {
      if (waits[j] > 0) {
        fault("/jobs/" + std::to_string(j) + "/after",
              "job " + in_quotes(problem_.jobs[j].name) +
                  " waits, through others, for itself or for jobs that do",
              "an order in which every job can start", "remove one of the names from its after");
        return;
      }
    }
  }

  void check_fit() {
    for (std::size_t j = 0; j < problem_.jobs.size(); ++j) {
      const Job& job = problem_.jobs[j];
      const std::string at = "/jobs/" + std::to_string(j);
      std::string why;
      bool fits = false;
      for (const Configuration& configuration : job.configurations) {
        const std::string reason = why_not(problem_, configuration);
        fits |= reason.empty();
        if (!reason.empty() && why.size() < 400) why += (why.empty() ? "" : "; ") + reason;
      }
      if (job.running && !job.running->may_move) fits = true;
      if (!fits) {
        fault(at, "job " + in_quotes(job.name) + " fits on no node", "a configuration that fits: " + why,
              "add a configuration with fewer devices, or a larger node", Kind::infeasible);
      }
    }
  }

  const PlanProblem& problem_;
  const Words& words_;
  Diagnostics faults_;
  std::unordered_map<std::string, std::size_t> job_index_;
};

}  // namespace

const char* name_of(Objective objective) {
  return kObjectives[static_cast<int>(objective)];
}

Result<Objective> objective_from(const std::string& name) {
  for (int i = 0; i < 4; ++i) {
    if (name == kObjectives[i]) return static_cast<Objective>(i);
  }
  const std::vector<std::string> known(std::begin(kObjectives), std::end(kObjectives));
  return Diagnostic{.what = "objective " + in_quotes(name) + " does not exist",
                    .expected = "one of " + listed(known),
                    .fix = did_you_mean(name, known)};
}

Diagnostics validate(const PlanProblem& problem) {
  return validate(problem, Words{});
}

Diagnostics validate(const PlanProblem& problem, const Words& words) {
  return Validator(problem, words).run();
}

namespace {

enum class Lack { nothing, device_class, devices, shares, host_memory, disk };

// Asked for every configuration and node: no text is made here.
Lack lack(const Node& node, const Configuration& configuration) {
  if (configuration.device_class != node.device_class) return Lack::device_class;
  if (configuration.num_devices > node.num_devices) return Lack::devices;
  if (node.shares_per_gpu > 1 && (configuration.num_devices / configuration.num_ranks > node.shares_per_gpu ||
                                  configuration.num_ranks > node.num_devices / node.shares_per_gpu)) {
    return Lack::shares;
  }
  if (node.host_memory_bytes && configuration.host_memory_bytes > *node.host_memory_bytes)
    return Lack::host_memory;
  if (node.disk_bytes && configuration.disk_bytes > *node.disk_bytes) return Lack::disk;
  return Lack::nothing;
}

}  // namespace

bool fits(const Node& node, const Configuration& configuration) {
  return lack(node, configuration) == Lack::nothing;
}

std::string why_not(const Node& node, const Configuration& configuration) {
  const std::string wanted =
      configuration.technique + " x" + std::to_string(configuration.num_devices) + " needs ";
  switch (lack(node, configuration)) {
    case Lack::nothing:
      break;
    case Lack::device_class:
      return wanted + "class " + configuration.device_class;
    case Lack::devices:
      return wanted + "more than the " + std::to_string(node.num_devices) + " devices of a node";
    case Lack::shares:
      return wanted + std::to_string(configuration.num_ranks) + " GPUs with " +
             std::to_string(configuration.num_devices / configuration.num_ranks) + " shares each";
    case Lack::host_memory:
      return wanted + format_bytes(static_cast<double>(configuration.host_memory_bytes)) + " of host memory";
    case Lack::disk:
      return wanted + format_bytes(static_cast<double>(configuration.disk_bytes)) + " of disk";
  }
  return "";
}

std::string why_not(const PlanProblem& problem, const Configuration& configuration) {
  const auto fits_on = [&](const Node& node) { return fits(node, configuration); };
  if (std::any_of(problem.nodes.begin(), problem.nodes.end(), fits_on)) return "";
  // The last node of its class says what is missing.
  for (auto node = problem.nodes.rbegin(); node != problem.nodes.rend(); ++node) {
    if (configuration.device_class == node->device_class) return why_not(*node, configuration);
  }
  return configuration.technique + " x" + std::to_string(configuration.num_devices) + " needs class " +
         configuration.device_class + ", which no node has";
}

}  // namespace saturn::plan
