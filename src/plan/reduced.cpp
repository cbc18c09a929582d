// Reduction: names to numbers, dominated configurations dropped, identical jobs found.

#include "plan/reduced.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <unordered_map>

#include "plan/fit.h"

namespace saturn::plan {
namespace {

// Whether `better` can replace `worse` in every plan: it asks for no more of anything.
bool dominates(const Mode& better, const Mode& worse, bool shared) {
  if (better.device_class != worse.device_class || better.fixed || worse.fixed) return false;
  // On shared GPUs the number of ranks decides which slots can be used together.
  if (shared && (better.ranks != worse.ranks || better.width != worse.width)) return false;
  return better.width <= worse.width && better.time_s <= worse.time_s &&
         better.memory_bytes <= worse.memory_bytes && better.disk_bytes <= worse.disk_bytes;
}

// Keeps the first of equals, so that the plan names the configuration listed first.
std::vector<Mode> without_dominated(std::vector<Mode> modes, bool shared) {
  std::stable_sort(modes.begin(), modes.end(), [](const Mode& left, const Mode& right) {
    if (left.device_class != right.device_class) return left.device_class < right.device_class;
    if (left.width != right.width) return left.width < right.width;
    return left.time_s < right.time_s;
  });
  std::vector<Mode> kept;
  for (const Mode& mode : modes) {
    const bool useless =
        std::any_of(kept.begin(), kept.end(), [&](const Mode& one) { return dominates(one, mode, shared); });
    if (!useless) kept.push_back(mode);
  }
  return kept;
}

bool whole(double value) {
  return value < 9e15 && value == std::floor(value);
}

std::string signature(const Task& task) {
  std::string text;
  const auto add = [&](auto value) { text.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const Mode& mode : task.modes) {
    add(mode.device_class);
    add(mode.width);
    add(mode.ranks);
    add(mode.time_s);
    add(mode.memory_bytes);
    add(mode.disk_bytes);
    add(mode.fixed);
  }
  add(task.release_s);
  add(task.deadline_s);
  add(task.weight);
  for (const int before : task.after) add(before);
  return text;
}

void find_twins(Reduced& reduced) {
  // A task that others wait for, or that runs, is like no other.
  std::vector<bool> apart(reduced.tasks.size(), false);
  for (std::size_t j = 0; j < reduced.tasks.size(); ++j) {
    for (const int before : reduced.tasks[j].after) apart[before] = true;
    for (const Mode& mode : reduced.tasks[j].modes) {
      if (mode.fixed) apart[j] = true;
    }
  }
  std::unordered_map<std::string, int> last;
  for (std::size_t j = 0; j < reduced.tasks.size(); ++j) {
    if (apart[j]) continue;
    const auto [it, fresh] = last.emplace(signature(reduced.tasks[j]), static_cast<int>(j));
    if (fresh) continue;
    reduced.tasks[j].twin_of = it->second;
    it->second = static_cast<int>(j);
  }
}

bool memory_can_bind(const PlanProblem& problem) {
  double memory = 0.0;
  double disk = 0.0;
  for (const Job& job : problem.jobs) {
    std::int64_t most_memory = 0;
    std::int64_t most_disk = 0;
    for (const Configuration& configuration : job.configurations) {
      most_memory = std::max(most_memory, configuration.host_memory_bytes);
      most_disk = std::max(most_disk, configuration.disk_bytes);
    }
    memory += static_cast<double>(most_memory);
    disk += static_cast<double>(most_disk);
  }
  return std::any_of(problem.nodes.begin(), problem.nodes.end(), [&](const Node& node) {
    return (node.host_memory_bytes && memory > static_cast<double>(*node.host_memory_bytes)) ||
           (node.disk_bytes && disk > static_cast<double>(*node.disk_bytes));
  });
}

Task reduce_job(const PlanProblem& problem, const std::vector<int>& class_of_node,
                const std::unordered_map<std::string, int>& job_index, int j) {
  const Job& job = problem.jobs[j];
  Task task;
  task.job = j;
  task.release_s = job.release_s;
  task.deadline_s = job.deadline_s.value_or(kNever);
  task.weight = job.priority;
  task.from_step = job.first_step;
  task.to_step = job.last_step;
  for (const std::string& before : job.after) task.after.push_back(job_index.at(before));
  bool shared = false;
  const bool stays = job.running && !job.running->may_move;
  for (int c = 0; c < static_cast<int>(job.configurations.size()) && !stays; ++c) {
    const Configuration& configuration = job.configurations[c];
    // To stop a job only to start it again in the same way gains nothing.
    if (job.running && c == job.running->configuration) continue;
    for (std::size_t n = 0; n < problem.nodes.size(); ++n) {
      if (!fits(problem.nodes[n], configuration)) continue;
      shared |= problem.nodes[n].shares_per_gpu > 1;
      task.modes.push_back({.device_class = class_of_node[n],
                            .width = configuration.num_devices,
                            .ranks = configuration.num_ranks,
                            .time_s = duration_s(configuration),
                            .memory_bytes = configuration.host_memory_bytes,
                            .disk_bytes = configuration.disk_bytes,
                            .configuration = c});
      break;
    }
  }
  task.modes = without_dominated(std::move(task.modes), shared);
  if (job.running) {
    const Configuration& configuration = job.configurations[job.running->configuration];
    std::size_t n = 0;
    while (problem.nodes[n].name != job.running->node) ++n;
    task.modes.push_back({.device_class = class_of_node[n],
                          .width = configuration.num_devices,
                          .ranks = configuration.num_ranks,
                          .time_s = job.running->remaining_s,
                          .memory_bytes = configuration.host_memory_bytes,
                          .disk_bytes = configuration.disk_bytes,
                          .configuration = job.running->configuration,
                          .fixed = true});
  }
  return task;
}

}  // namespace

Reduced reduce(const PlanProblem& problem) {
  Reduced reduced;
  reduced.problem = &problem;
  std::map<std::string, int> classes;
  std::vector<int> class_of_node;
  for (const Node& node : problem.nodes) {
    const int index = classes.emplace(node.device_class, static_cast<int>(classes.size())).first->second;
    class_of_node.push_back(index);
    reduced.nodes.push_back(
        {.device_class = index,
         .width = node.num_devices,
         .shares = node.shares_per_gpu,
         .memory_bytes = node.host_memory_bytes ? static_cast<double>(*node.host_memory_bytes) : kNever,
         .disk_bytes = node.disk_bytes ? static_cast<double>(*node.disk_bytes) : kNever,
         .price = node.price_per_device_hour});
    reduced.plain &= node.shares_per_gpu == 1 && node.outages.empty();
  }
  reduced.num_classes = static_cast<int>(classes.size());
  reduced.nodes_of_class.resize(classes.size());
  for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
    reduced.nodes_of_class[class_of_node[n]].push_back(static_cast<int>(n));
  }
  std::unordered_map<std::string, int> job_index;
  for (std::size_t j = 0; j < problem.jobs.size(); ++j)
    job_index.emplace(problem.jobs[j].name, static_cast<int>(j));
  for (std::size_t j = 0; j < problem.jobs.size(); ++j) {
    const Job& job = problem.jobs[j];
    reduced.plain &= job.release_s == 0.0 && job.after.empty() && !job.deadline_s && !job.running;
    reduced.tasks.push_back(reduce_job(problem, class_of_node, job_index, static_cast<int>(j)));
    for (const Mode& mode : reduced.tasks.back().modes) reduced.integral &= whole(mode.time_s);
    reduced.integral &= whole(job.release_s);
  }
  for (const Node& node : problem.nodes) {
    for (const Outage& outage : node.outages) {
      reduced.integral &= whole(outage.from_s) && (whole(outage.to_s) || outage.to_s == kNever);
    }
  }
  reduced.plain &= problem.objective == Objective::makespan && !memory_can_bind(problem);
  find_twins(reduced);
  return reduced;
}

bool can_run(const Reduced& reduced, const Task& task, const Mode& mode, int node) {
  const ReducedNode& on = reduced.nodes[node];
  if (mode.device_class != on.device_class || mode.width > on.width) return false;
  if (static_cast<double>(mode.memory_bytes) > on.memory_bytes ||
      static_cast<double>(mode.disk_bytes) > on.disk_bytes) {
    return false;
  }
  if (on.shares > 1 && (mode.width / mode.ranks > on.shares || mode.ranks > on.width / on.shares))
    return false;
  return !mode.fixed || reduced.problem->nodes[node].name == reduced.problem->jobs[task.job].running->node;
}

Reduced relax(const Reduced& reduced) {
  Reduced relaxed = reduced;
  relaxed.plain = true;
  for (ReducedNode& node : relaxed.nodes) {
    node.shares = 1;
    node.memory_bytes = kNever;
    node.disk_bytes = kNever;
  }
  for (Task& task : relaxed.tasks) {
    task.release_s = 0.0;
    task.deadline_s = kNever;
    task.weight = 1.0;
    task.after.clear();
    task.twin_of = -1;
    for (Mode& mode : task.modes) {
      mode.memory_bytes = 0;
      mode.disk_bytes = 0;
      mode.fixed = false;
    }
    task.modes = without_dominated(std::move(task.modes), false);
  }
  find_twins(relaxed);
  return relaxed;
}

}  // namespace saturn::plan
