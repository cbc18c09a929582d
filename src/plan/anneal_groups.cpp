// Annealing of few nodes at a time: the node that ends last and one or two others, as a problem of their own.
// With many nodes a move anywhere else cannot shorten the plan, and a small problem cools soon.

#include <algorithm>
#include <numeric>

#include "plan/anneal.h"
#include "plan/timeline.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

constexpr std::int64_t kFirstPerTask = 400;  // evaluations per task of a group
constexpr std::int64_t kMostPerTask = 50000;

class Groups {
 public:
  Groups(const Reduced& reduced, const Solution& start, const AnnealOptions& options)
      : reduced_(reduced), options_(options), random_(mix_key(options.seed, 0x67726f7570)) {
    lists_.resize(reduced.nodes.size());
    for (const Choice& choice : start) lists_[choice.node].push_back(choice);
    end_s_.resize(lists_.size(), 0.0);
    for (std::size_t n = 0; n < lists_.size(); ++n) {
      end_s_[n] = end_of(n);
    }
  }

  AnnealResult run(const Budget& budget) {
    std::int64_t done = 0;
    // About forty looks at groups, sooner where there are few evaluations to spend.
    const auto tasks_of_group =
        static_cast<std::int64_t>(1 + reduced_.tasks.size() * 5 / (lists_.size() * 2));
    std::int64_t per_task = std::clamp(budget.iterations / 40 / tasks_of_group, kFirstPerTask, kMostPerTask);
    std::size_t failed = 0;
    while (done < budget.iterations && !(budget.out_of_time && budget.out_of_time())) {
      const std::size_t last = worst();
      if (end_s_[last] <= options_.bound_s) break;
      if (improve(group_of(last), per_task, budget, done)) {
        failed = 0;
        continue;
      }
      // The last node has been tried with about as many groups as there are nodes: look longer.
      if (++failed <= lists_.size()) continue;
      failed = 0;
      per_task = std::min(per_task * 2, kMostPerTask);
    }
    Solution solution;
    for (const Solution& list : lists_) solution.insert(solution.end(), list.begin(), list.end());
    return {std::move(solution), end_s_[worst()], done};
  }

 private:
  double end_of(std::size_t n) {
    const int width = reduced_.nodes[n].width;
    free_s_.assign(static_cast<std::size_t>(width), 0.0);
    for (const Choice& choice : lists_[n]) {
      const Mode& mode = reduced_.tasks[choice.task].modes[choice.mode];
      place_on(free_s_.data(), width, mode.width, mode.time_s);
    }
    return free_s_.back();
  }

  std::size_t worst() const {
    return static_cast<std::size_t>(std::max_element(end_s_.begin(), end_s_.end()) - end_s_.begin());
  }

  // `last` and one or two others; the better of two draws is the one that ends sooner.
  std::vector<std::size_t> group_of(std::size_t last) {
    std::vector<std::size_t> group = {last};
    const std::size_t size = std::min<std::size_t>(lists_.size(), 2 + random_.below(2));
    while (group.size() < size) {
      std::size_t n = random_.below(lists_.size());
      const std::size_t other = random_.below(lists_.size());
      if (end_s_[other] < end_s_[n]) n = other;
      if (std::find(group.begin(), group.end(), n) == group.end()) group.push_back(n);
    }
    return group;
  }

  bool improve(const std::vector<std::size_t>& group, std::int64_t per_task, const Budget& budget,
               std::int64_t& done) {
    Reduced part;
    part.problem = reduced_.problem;
    part.num_classes = reduced_.num_classes;
    part.nodes_of_class.resize(reduced_.nodes_of_class.size());
    part.integral = reduced_.integral;
    Solution start;
    std::vector<int> task_of;
    double before_s = 0.0;
    for (const std::size_t n : group) {
      const int node = static_cast<int>(part.nodes.size());
      part.nodes.push_back(reduced_.nodes[n]);
      part.nodes_of_class[reduced_.nodes[n].device_class].push_back(node);
      before_s = std::max(before_s, end_s_[n]);
      for (const Choice& choice : lists_[n]) {
        start.push_back({static_cast<int>(part.tasks.size()), node, choice.mode});
        part.tasks.push_back(reduced_.tasks[choice.task]);
        task_of.push_back(choice.task);
      }
    }
    const AnnealOptions how{.seed = random_.next(),
                            .bound_s = options_.bound_s,
                            .idle_weight = options_.idle_weight,
                            .heat = options_.heat,
                            .class_price = options_.class_price};
    const std::int64_t now =
        std::min(per_task * static_cast<std::int64_t>(part.tasks.size()), budget.iterations - done);
    const AnnealResult result = anneal(part, start, how, {now, budget.out_of_time});
    done += std::max<std::int64_t>(1, result.iterations);
    if (result.makespan_s >= before_s) return false;
    for (const std::size_t n : group) lists_[n].clear();
    for (const Choice& choice : result.solution) {
      lists_[group[choice.node]].push_back(
          {task_of[choice.task], static_cast<int>(group[choice.node]), choice.mode});
    }
    for (const std::size_t n : group) {
      end_s_[n] = end_of(n);
    }
    return true;
  }

  const Reduced& reduced_;
  const AnnealOptions& options_;
  Random random_;
  std::vector<Solution> lists_;
  std::vector<double> end_s_;
  std::vector<double> free_s_;
};

}  // namespace

AnnealResult anneal_groups(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                           const Budget& budget) {
  if (start.empty() || reduced.nodes.size() < 2) return {start, kNever, 0};
  return Groups(reduced, start, options).run(budget);
}

}  // namespace saturn::plan
