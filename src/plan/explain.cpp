// Explanation of a plan: forced alternatives, the critical chain, the worth of devices.

#include "saturn/plan/explain.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "plan/bounds.h"
#include "plan/reduced.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn::plan {
namespace {

bool about(double left, double right) {
  return std::abs(left - right) <= 1e-6 * std::max(1.0, std::abs(left));
}

// The problem with one configuration of one job forced, solved within a share of the budget.
Alternative with_forced(const PlanProblem& problem, const Plan& plan, std::size_t job, std::size_t c,
                        const SolveOptions& options) {
  const Configuration& configuration = problem.jobs[job].configurations[c];
  Alternative alternative{.technique = configuration.technique,
                          .num_devices = configuration.num_devices,
                          .num_ranks = configuration.num_ranks,
                          .device_class = configuration.device_class,
                          .time_s = duration_s(configuration)};
  for (const Assignment& assignment : plan.assignments) {
    if (assignment.job == problem.jobs[job].name) {
      alternative.chosen |= configuration_of(problem.jobs[job], problem, assignment) == &configuration;
    }
  }
  if (alternative.chosen) {
    alternative.feasible = true;
    alternative.makespan_s = plan.makespan_s;
    alternative.lower_bound_s = plan.lower_bound_s;
    alternative.reason = "chosen";
    return alternative;
  }
  PlanProblem forced = problem;
  forced.jobs[job].configurations = {configuration};
  if (forced.jobs[job].running) {
    if (!forced.jobs[job].running->may_move) {
      alternative.reason = "the job runs and may not be moved";
      return alternative;
    }
    forced.jobs[job].running.reset();
  }
  const Result<Plan> best = solve(forced, options);
  if (!best.ok()) {
    alternative.reason = best.faults().front().what;
    return alternative;
  }
  alternative.feasible = true;
  alternative.makespan_s = best->makespan_s;
  alternative.lower_bound_s = best->lower_bound_s;
  if (alternative.lower_bound_s > plan.makespan_s) {
    alternative.reason = "every plan with it ends at least " +
                         format_duration(alternative.lower_bound_s - plan.makespan_s) + " later";
  } else if (alternative.makespan_s > plan.makespan_s) {
    alternative.reason = "the best plan found with it ends " +
                         format_duration(alternative.makespan_s - plan.makespan_s) + " later";
  } else {
    alternative.reason = "as good: the plan with it ends no later";
  }
  return alternative;
}

// From the last job to end back to the origin: each link could not start before the one it waits for.
std::vector<ChainLink> critical_chain(const PlanProblem& problem, const Plan& plan) {
  std::map<std::string, const Job*> jobs;
  for (const Job& job : problem.jobs) jobs.emplace(job.name, &job);
  const Assignment* at = nullptr;
  for (const Assignment& assignment : plan.assignments) {
    if (at == nullptr || assignment.end_s() > at->end_s()) at = &assignment;
  }
  std::vector<ChainLink> chain;
  while (at != nullptr && chain.size() <= plan.assignments.size()) {
    ChainLink link{.job = at->job, .start_s = at->start_s, .end_s = at->end_s()};
    const Assignment* before = nullptr;
    const Job& job = *jobs.at(at->job);
    if (!about(at->start_s, 0.0)) {
      for (const Assignment& other : plan.assignments) {
        if (&other == at || !about(other.end_s(), at->start_s)) continue;
        const bool named = std::find(job.after.begin(), job.after.end(), other.job) != job.after.end();
        const bool shares = std::any_of(at->devices.begin(), at->devices.end(), [&](const Device& device) {
          return std::find(other.devices.begin(), other.devices.end(), device) != other.devices.end();
        });
        if (!named && !shares) continue;
        before = &other;
        link.waits_for = named ? "after " + other.job : "devices of " + other.job;
        if (named) break;
      }
      if (before == nullptr && about(job.release_s, at->start_s)) link.waits_for = "release";
      if (before == nullptr && link.waits_for.empty()) link.waits_for = "devices or memory of its node";
    }
    chain.push_back(link);
    at = before;
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

// What the bound loses when the largest node of each class grows by one device.
std::vector<ShadowPrice> shadow_prices(const PlanProblem& problem) {
  std::vector<ShadowPrice> prices;
  const double now_s = allotment_bound(relax(reduce(problem))).bound_s;
  std::map<std::string, std::vector<std::size_t>> nodes;
  for (std::size_t n = 0; n < problem.nodes.size(); ++n) nodes[problem.nodes[n].device_class].push_back(n);
  for (const auto& [device_class, members] : nodes) {
    ShadowPrice price{.device_class = device_class};
    for (const std::size_t n : members) price.num_devices += problem.nodes[n].num_devices;
    PlanProblem larger = problem;
    larger.nodes[members.front()].num_devices += larger.nodes[members.front()].shares_per_gpu;
    price.bound_s_per_device = std::min(0.0, (allotment_bound(relax(reduce(larger))).bound_s - now_s) /
                                                 problem.nodes[members.front()].shares_per_gpu);
    prices.push_back(price);
  }
  std::stable_sort(prices.begin(), prices.end(), [](const ShadowPrice& left, const ShadowPrice& right) {
    return left.bound_s_per_device < right.bound_s_per_device;
  });
  return prices;
}

}  // namespace

Result<Explanation> explain(const PlanProblem& problem, const Plan& plan, const std::string& job,
                            const SolveOptions& options) {
  std::vector<std::string> names;
  std::size_t index = problem.jobs.size();
  for (std::size_t j = 0; j < problem.jobs.size(); ++j) {
    names.push_back(problem.jobs[j].name);
    if (problem.jobs[j].name == job) index = j;
  }
  if (index == problem.jobs.size()) {
    return Diagnostic{
        .where = problem.name,
        .what = "there is no job " + in_quotes(job),
        .expected = names.size() <= 20 ? "one of " + listed(names) : "the name of one of its jobs",
        .fix = did_you_mean(job, names)};
  }
  Explanation explanation{.job = job};
  const std::size_t count = problem.jobs[index].configurations.size();
  SolveOptions forced = options;
  forced.policy = "saturn";
  forced.baselines = false;
  forced.on_progress = nullptr;
  forced.start_from = nullptr;
  forced.time_limit_s = std::max(0.2, options.time_limit_s / static_cast<double>(count + 1));
  if (options.iterations) forced.iterations = *options.iterations / static_cast<std::int64_t>(count + 1);
  for (std::size_t c = 0; c < count; ++c) {
    explanation.alternatives.push_back(with_forced(problem, plan, index, c, forced));
  }
  explanation.chain = critical_chain(problem, plan);
  explanation.prices = shadow_prices(problem);
  return explanation;
}

std::string to_text(const Explanation& explanation) {
  std::string text = "\njob " + explanation.job + ": the best plan with each of its configurations\n";
  for (const Alternative& one : explanation.alternatives) {
    std::string label = one.technique + " x" + std::to_string(one.num_devices) + " on " + one.device_class;
    label.resize(std::max<std::size_t>(label.size() + 1, 26), ' ');
    std::string own = format_duration(one.time_s);
    own.resize(std::max<std::size_t>(own.size() + 1, 10), ' ');
    std::string makespan = one.feasible ? format_duration(one.makespan_s) : "-";
    makespan.resize(std::max<std::size_t>(makespan.size() + 1, 10), ' ');
    text += std::string(one.chosen ? "* " : "  ") + label + "runs " + own + "makespan " + makespan +
            one.reason + "\n";
  }
  text += "what fixes the makespan\n";
  for (const ChainLink& link : explanation.chain) {
    text += "  " + format_duration(link.start_s) + " to " + format_duration(link.end_s) + "  " + link.job +
            (link.waits_for.empty() ? "" : "  (waits for " + link.waits_for + ")") + "\n";
  }
  text += "what one device more would do to the bound\n";
  for (const ShadowPrice& price : explanation.prices) {
    text += "  " + price.device_class + " (" + std::to_string(price.num_devices) + " now): " +
            (price.bound_s_per_device < 0.0 ? "-" + format_duration(-price.bound_s_per_device)
                                            : std::string("nothing")) +
            "\n";
  }
  return text;
}

Json to_json(const Explanation& explanation) {
  Json document = {{"job", explanation.job}};
  Json& alternatives = document["alternatives"] = Json::array();
  for (const Alternative& one : explanation.alternatives) {
    alternatives.push_back({{"technique", one.technique},
                            {"num_devices", one.num_devices},
                            {"num_ranks", one.num_ranks},
                            {"device_class", one.device_class},
                            {"time_s", one.time_s},
                            {"chosen", one.chosen},
                            {"feasible", one.feasible},
                            {"makespan_s", one.makespan_s},
                            {"lower_bound_s", one.lower_bound_s},
                            {"reason", one.reason}});
  }
  Json& chain = document["chain"] = Json::array();
  for (const ChainLink& link : explanation.chain) {
    chain.push_back(
        {{"job", link.job}, {"start_s", link.start_s}, {"end_s", link.end_s}, {"waits_for", link.waits_for}});
  }
  Json& prices = document["prices"] = Json::array();
  for (const ShadowPrice& price : explanation.prices) {
    prices.push_back({{"device_class", price.device_class},
                      {"num_devices", price.num_devices},
                      {"bound_s_per_device", price.bound_s_per_device}});
  }
  return document;
}

}  // namespace saturn::plan
