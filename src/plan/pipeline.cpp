// Policy "saturn": constructive plans, bounds, local search, exact search. Each stage only improves.
//
// Two processes share the work: this one searches for plans, a helper proves bounds with CBC and branch and
// bound and, when it has nothing left to prove, searches too. With an iteration budget they exchange what
// they know only at the end, so that the outcome does not depend on who was faster.

#include "plan/pipeline.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "plan/anneal.h"
#include "plan/bounds.h"
#include "plan/construct.h"
#include "plan/exact.h"
#include "plan/exact_general.h"
#include "plan/general.h"
#include "plan/helper.h"
#include "plan/pack.h"
#include "plan/prune.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

constexpr double kIdleWeights[] = {1.0, 0.5, 2.0};  // with the heats below, in turn
constexpr double kHeats[] = {0.5, 1.0, 0.5};
constexpr std::size_t kMostGlobalNodes = 8;
constexpr std::size_t kMostGlobalTasks = 128;
constexpr std::size_t kLeastPackedNodes = 16;
constexpr std::size_t kMostTasksPerPackedNode = 16;
constexpr std::int64_t kFirstPackedPerTask = 500;  // evaluations
constexpr std::int64_t kMostPackedPerTask = 20000;
constexpr double kPackWithin = 0.03;             // of the bound: packing does not aim at more
constexpr std::int64_t kGeneralPerTask = 20000;  // evaluations of the general search
constexpr std::int64_t kLongestRound = 3000000;
constexpr std::int64_t kGeneralGlance = 20000;  // steps of the exact search under side constraints: at first,
constexpr std::int64_t kGeneralLook = 400000;   // and once the search has a good plan
constexpr std::size_t kExactTasks = 16;         // so many are mostly decided within seconds
constexpr std::size_t kMostBoundTasks = 32;     // for so many the exact search may still raise the bound

class Pipeline {
 public:
  Pipeline(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent)
      : reduced_(reduced), options_(options), incumbent_(incumbent), seed_(options.seed) {}

  void run() {
    construct();
    if (incumbent_.finished() || incumbent_.solution().empty()) return;
    std::unique_ptr<Helper> helper;
    if (options_.num_threads > 1 && options_.proves && worth_helping()) {
      helper = Helper::start([this](Link& link) { help(link); });
    }
    if (helper != nullptr) {
      link_ = &helper->link();
      search(exact_here() ? 0.1 : 1.0);
      if (exact_here()) improve_exactly(0.7);
      if (!repeatable()) search(1.0);
      finish_helper();
      return;
    }
    search(exact_here() ? 0.2 : 0.5);
    if (options_.proves) prove(0.6);
    if (exact_here()) improve_exactly(0.7);
    search(1.0);
  }

 private:
  bool repeatable() const { return options_.iterations.has_value(); }
  bool exact_here() const { return exact_applies(reduced_) && reduced_.tasks.size() <= kExactTasks; }

  // A few thousand evaluations are over before a process has started.
  bool worth_helping() const {
    return repeatable() ? *options_.iterations >= 20000 : incumbent_.left_s() > 0.05;
  }

  void construct() {
    incumbent_.raise_bound(simple_bound_s(reduced_), "area");
    incumbent_.offer(current_practice(reduced_), "list");
    if (incumbent_.finished()) return;
    incumbent_.offer(
        best_list(reduced_, capped_allotments(reduced_), [this] { return incumbent_.finished(); }), "list");
    if (incumbent_.finished()) return;
    const AllotmentBound lp = allotment_bound(reduced_, incumbent_.value().makespan_s);
    incumbent_.raise_bound(lp.bound_s, "pattern LP");
    incumbent_.offer(best_list(reduced_, lp.roundings), "LP rounding");
    class_price_ = lp.class_price;
  }

  // --- the helper's side

  void help(Link& link) {
    link_ = &link;
    in_helper_ = true;
    seed_ = mix_key(options_.seed, 0x68656c70);
    const std::int64_t before = incumbent_.iterations;
    const auto tell = [&, known_s = incumbent_.value().makespan_s]() mutable {
      Report report{.bound_s = incumbent_.bound_s(), .by = incumbent_.bound_by()};
      if (incumbent_.value().makespan_s < known_s) {
        known_s = incumbent_.value().makespan_s;
        report.by = incumbent_.found_by();
        report.solution = incumbent_.solution();
      }
      if (!link.send(report)) gone_ = true;
    };
    incumbent_.listen(tell);
    prove(1.0);
    search(1.0);
    link.send({.iterations = incumbent_.iterations - before});
  }

  // What the other side has found, where it may be used at once.
  void exchange() {
    if (link_ == nullptr || repeatable()) return;
    const double now_s = incumbent_.elapsed_s();
    if (now_s - last_exchange_s_ < 0.004) return;
    last_exchange_s_ = now_s;
    if (!in_helper_ && incumbent_.value().makespan_s < told_s_) {
      told_s_ = incumbent_.value().makespan_s;
      link_->send({.by = incumbent_.found_by(), .solution = incumbent_.solution()});
    }
    take(link_->receive());
  }

  void take(const std::vector<Report>& reports) {
    for (const Report& report : reports) {
      if (!report.solution.empty() && incumbent_.offer(report.solution, report.by)) {
        told_s_ = incumbent_.value().makespan_s;
      }
      if (report.bound_s > 0.0) incumbent_.raise_bound(report.bound_s, report.by);
      incumbent_.iterations += report.iterations;
    }
  }

  void finish_helper() {
    if (!repeatable()) return take(link_->receive());
    while (!link_->closed() && !incumbent_.interrupted() && incumbent_.left_s() > 0.0) {
      take(link_->receive(std::min(0.05, incumbent_.left_s())));
    }
  }

  bool finished() {
    exchange();
    return gone_ || incumbent_.finished();
  }

  // --- bounds

  // Spends at most `share` of the time that is left.
  void prove(double share) {
    if (finished()) return;
    const double until_s = incumbent_.left_s() * (1.0 - share);
    const bool small = exact_applies(reduced_) && reduced_.tasks.size() <= kMostBoundTasks;
    MilpBudget budget;
    budget.left_s = (incumbent_.left_s() - until_s) * (exact_here() ? 0.12 : small ? 0.5 : 0.6);
    if (repeatable()) {
      budget.left_s = incumbent_.left_s();
      // The clock may not decide: CBC gets a share of nodes that costs about as much as the search does.
      budget.node_limit = static_cast<int>(std::clamp<std::int64_t>(*options_.iterations / 5000, 10, 2000));
      budget.solve_limit = *options_.iterations >= 1000000 ? 8 : 3;
    }
    budget.elapsed_s = [&] { return incumbent_.elapsed_s(); };
    budget.stop = [&] { return finished(); };
    budget.upper_s = [&] { return incumbent_.value().makespan_s; };
    budget.raise = [&](double bound_s, const std::string& by) { incumbent_.raise_bound(bound_s, by); };
    milp_bounds(reduced_, incumbent_.bound_s(), budget);
    if (small) refute_exactly(until_s);
  }

  // T below which no plan may end, as a claim with room for rounding and the limit that is searched.
  struct Target {
    double claim_s;
    double limit_s;
  };
  Target target(double claim_s) const {
    if (reduced_.integral) {
      claim_s = std::ceil(claim_s);
      return {claim_s, claim_s - 1.0};
    }
    claim_s *= 1.0 - 5e-7;
    return {claim_s, claim_s * (1.0 + 1e-9)};
  }

  // Bisection by the exact search: each T costs a share of the time; what is not refuted in it is left open.
  void refute_exactly(double until_s) {
    ExactSearch exact(reduced_, incumbent_.value().makespan_s);
    double open_s = incumbent_.value().makespan_s;
    const std::int64_t nodes = repeatable() ? *options_.iterations / 4 : std::int64_t{1} << 50;
    const std::int64_t rounds = repeatable() ? 4 : 1000;
    for (std::int64_t round = 0; round < rounds && !finished(); ++round) {
      open_s = std::min(open_s, incumbent_.value().makespan_s);
      const double low_s = incumbent_.bound_s();
      if (open_s - low_s <= std::max(2e-4 * low_s, reduced_.integral ? 1.0 : 0.0)) return;
      const Target next = target(low_s + (open_s - low_s) * 0.5);
      const double slice_s = std::max(0.05, (incumbent_.left_s() - until_s) * 0.25);
      const double end_s = incumbent_.elapsed_s() + slice_s;
      if (incumbent_.left_s() <= until_s) return;
      const auto answer = exact.ends_by(next.limit_s, nodes, [&] {
        return finished() || incumbent_.bound_s() >= next.claim_s ||
               (!repeatable() && incumbent_.elapsed_s() > end_s);
      });
      if (answer == ExactSearch::Answer::found) incumbent_.offer(exact.solution(), "branch and bound");
      if (answer == ExactSearch::Answer::refuted) incumbent_.raise_bound(next.claim_s, "branch and bound");
      if (answer == ExactSearch::Answer::undecided) open_s = next.claim_s;
    }
  }

  // Plans that beat the incumbent, until there are none or `share` of the time is spent.
  void improve_exactly(double share) {
    const double stop_s = incumbent_.elapsed_s() + incumbent_.left_s() * share;
    ExactSearch exact(reduced_, incumbent_.value().makespan_s);
    const std::int64_t nodes = repeatable() ? *options_.iterations * 2 : std::int64_t{1} << 50;
    while (!finished()) {
      const Target next = target(incumbent_.value().makespan_s);
      const auto answer = exact.ends_by(next.limit_s, nodes, [&] {
        return finished() || incumbent_.value().makespan_s <= next.limit_s ||
               (!repeatable() && incumbent_.elapsed_s() > stop_s);
      });
      if (answer == ExactSearch::Answer::found) incumbent_.offer(exact.solution(), "branch and bound");
      if (answer == ExactSearch::Answer::refuted) incumbent_.raise_bound(next.claim_s, "branch and bound");
      if (answer == ExactSearch::Answer::undecided && incumbent_.value().makespan_s > next.limit_s) return;
    }
  }

  // --- plans

  // Modes that cannot help any more are left out of the search; again whenever the plan got better.
  void tighten() {
    const double upper_s = incumbent_.value().makespan_s;
    if (upper_s >= pruned_for_s_) return;
    const double before_s = incumbent_.elapsed_s();
    if (pruned_for_s_ == kNever || repeatable() || tighten_took_s_ < 0.02 * options_.time_limit_s) {
      lp_ = allotment_bound(reduced_, upper_s);
      incumbent_.raise_bound(lp_.bound_s, "pattern LP");
    }
    pruned_for_s_ = upper_s;
    tighten_took_s_ = incumbent_.elapsed_s() - before_s;
    if (!prune(reduced_, lp_, upper_s).possible) incumbent_.raise_bound(upper_s, "pattern LP");
  }

  // How far from its best mode a task may stray: few tasks need the room, many lose their way in it. Each
  // width of view is tried once; then those that gave the best plans, and now and then another.
  struct View {
    double slack = 0.0;
    double best_s = kNever;
  };

  std::size_t next_view() {
    if (num_searches_ < views_.size()) return num_searches_;
    std::vector<std::size_t> order(views_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return views_[a].best_s < views_[b].best_s; });
    static constexpr std::size_t kRanks[] = {0, 1, 0, 2, 1, 0, 3, 1};
    const std::size_t turn = num_searches_ - views_.size();
    const std::size_t rank = turn % 9 == 8 ? 4 + turn / 9 % 3 : kRanks[turn % 9];
    return order[rank % order.size()];
  }

  // The three ways to anneal in turn; one order of all tasks is dear where there are many, and on one node
  // they are all one.
  enum class Kind { lists, one_order, groups };
  Kind kind_of(std::size_t turn) const {
    const std::size_t num_nodes = reduced_.nodes.size();
    const bool one_order = num_nodes <= kMostGlobalNodes && reduced_.tasks.size() <= kMostGlobalTasks;
    if (num_nodes == 1) return Kind::lists;
    if (num_nodes == 2) return turn % 2 == 1 && one_order ? Kind::one_order : Kind::lists;
    if (!one_order) return turn % 2 == 1 ? Kind::groups : Kind::lists;
    static constexpr Kind kTurns[] = {Kind::lists, Kind::groups, Kind::one_order, Kind::groups};
    return kTurns[turn % 4];
  }

  bool packs() const {
    const std::size_t num_nodes = reduced_.nodes.size();
    return num_nodes >= kLeastPackedNodes && reduced_.tasks.size() <= num_nodes * kMostTasksPerPackedNode;
  }

  // Packs the nodes up to an end between bound and plan: half way, closer to the plan after each failure.
  // Each round is twice as long as the one before it. Returns its evaluations.
  std::int64_t pack_once(std::int64_t most, double stop_s) {
    const auto num_tasks = static_cast<std::int64_t>(reduced_.tasks.size());
    const std::int64_t longest = num_tasks * kMostPackedPerTask;
    std::int64_t now =
        std::min({(num_tasks * kFirstPackedPerTask) << std::min(num_packed_, 20), longest, most});
    if (!repeatable() && pack_speed_ > 0.0) {
      const double left_s = stop_s - incumbent_.elapsed_s();
      now = std::clamp<std::int64_t>(static_cast<std::int64_t>(pack_speed_ * left_s), 2000, now);
    }
    const double bound_s = incumbent_.bound_s();
    const double upper_s = std::min(incumbent_.value().makespan_s, bound_s * (1.0 + kPackWithin));
    const PackOptions how{.seed = mix_key(seed_, 0x7061636b, num_packed_),
                          .end_s = bound_s + pack_aim_ * (upper_s - bound_s)};
    const Budget budget{now,
                        [&] { return finished() || (!repeatable() && incumbent_.elapsed_s() > stop_s); }};
    const double before_s = incumbent_.elapsed_s();
    const PackResult result = pack(reduced_, lp_, how, budget);
    ++num_packed_;
    if (result.num_left > 0) pack_aim_ = std::min(0.9, 0.5 * (1.0 + pack_aim_));
    pack_speed_ = static_cast<double>(result.iterations) / std::max(1e-6, incumbent_.elapsed_s() - before_s);
    incumbent_.iterations += result.iterations;
    incumbent_.offer(result.solution, "packing");
    return std::max<std::int64_t>(result.iterations, 1);
  }

  // Annealing in rounds, from the best plan, up to `share` of the time or iterations. Rounds grow: the first
  // give a good plan soon, the long ones the best.
  void search(double share) {
    const double stop_s = incumbent_.elapsed_s() + (options_.time_limit_s - incumbent_.elapsed_s()) * share;
    const std::int64_t all = repeatable() ? *options_.iterations : std::int64_t{1} << 50;
    const auto num_tasks = static_cast<std::int64_t>(reduced_.tasks.size());
    std::int64_t done = 0;
    double speed = 0.0;
    while (!finished() && done < all) {
      tighten();
      if (finished()) return;
      const double left_s = stop_s - incumbent_.elapsed_s();
      if (!repeatable() && left_s <= 0.0) return;
      if (packs() && num_packed_ <= static_cast<int>(num_searches_)) {
        done += pack_once(all - done, stop_s);
        continue;
      }
      // After each pass over the views rounds are twice as long.
      const auto doublings = static_cast<int>(num_searches_ / views_.size());
      const std::int64_t first = std::clamp<std::int64_t>(num_tasks * 250, 4000, 250000);
      const std::int64_t longest = kLongestRound * std::max<std::int64_t>(1, num_tasks / 48);
      std::int64_t now = std::min({first << std::min(doublings, 20), longest, all - done});
      if (!repeatable() && speed > 0.0) {
        // A round that would be cut off is made to fit: a run that ends hot has found little.
        now = std::clamp<std::int64_t>(static_cast<std::int64_t>(speed * left_s), 2000, now);
      }
      View& view = views_[next_view()];
      const std::size_t how_many = num_searches_ + num_searches_ / views_.size();
      const Kind kind = kind_of(how_many);
      const AnnealOptions how{.seed = mix_key(seed_, num_searches_),
                              .bound_s = incumbent_.bound_s(),
                              .idle_weight = kIdleWeights[num_searches_ / 2 % 3],
                              .heat = kHeats[num_searches_ / 2 % 3],
                              .class_price = class_price_};
      ++num_searches_;
      const Pruned pruned = focus(reduced_, lp_, pruned_for_s_, view.slack);
      const Solution start =
          pruned.possible ? pruned.from_whole(reduced_, incumbent_.solution()) : Solution{};
      const Budget budget{now,
                          [&] { return finished() || (!repeatable() && incumbent_.elapsed_s() > stop_s); }};
      const double before_s = incumbent_.elapsed_s();
      AnnealResult result;
      switch (kind) {
        case Kind::lists:
          result = anneal(pruned.reduced, start, how, budget);
          break;
        case Kind::one_order:
          result = anneal_global(pruned.reduced, start, how, budget);
          break;
        case Kind::groups:
          result = anneal_groups(pruned.reduced, start, how, budget);
          break;
      }
      incumbent_.iterations += result.iterations;
      done += std::max<std::int64_t>(result.iterations, 1);
      speed = static_cast<double>(result.iterations) / std::max(1e-6, incumbent_.elapsed_s() - before_s);
      if (result.solution.empty()) continue;
      view.best_s = std::min(view.best_s, result.makespan_s);
      static constexpr const char* kNames[] = {"annealing", "annealing of one order", "annealing of groups"};
      incumbent_.offer(pruned.to_whole(result.solution), kNames[static_cast<int>(kind)]);
    }
  }

  const Reduced& reduced_;
  const SolveOptions& options_;
  Incumbent& incumbent_;
  std::uint64_t seed_;
  std::size_t num_searches_ = 0;
  std::vector<View> views_ = {{1e-5}, {1e-4}, {3e-4}, {1e-3}, {3e-3}, {1e-2}, {1e9}};
  double pack_aim_ = 0.5;
  double pack_speed_ = 0.0;
  int num_packed_ = 0;
  std::vector<double> class_price_;
  AllotmentBound lp_;
  double pruned_for_s_ = kNever;
  double tighten_took_s_ = 0.0;
  Link* link_ = nullptr;
  bool in_helper_ = false;
  bool gone_ = false;
  double last_exchange_s_ = 0.0;
  double told_s_ = kNever;
};

// The relaxed task's modes were sorted and thinned again: find the same configuration among the task's own.
Solution restored(const Reduced& reduced, const Reduced& relaxed, const Solution& solution) {
  Solution restored;
  for (const Choice& choice : solution) {
    const Mode& from = relaxed.tasks[choice.task].modes[choice.mode];
    const std::vector<Mode>& modes = reduced.tasks[choice.task].modes;
    for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
      if (modes[m].configuration != from.configuration || modes[m].device_class != from.device_class ||
          modes[m].time_s != from.time_s ||
          !can_run(reduced, reduced.tasks[choice.task], modes[m], choice.node)) {
        continue;
      }
      restored.push_back({choice.task, choice.node, m});
      break;
    }
  }
  return restored.size() == solution.size() ? restored : Solution{};
}

// Every task where it is fastest, what runs going on: a start where the heuristics, which see widths and
// times alone, put tasks on nodes that have no room for them.
Solution first_fit(const Reduced& reduced) {
  Solution solution;
  for (int t = 0; t < static_cast<int>(reduced.tasks.size()); ++t) {
    const Task& task = reduced.tasks[t];
    Choice choice{t, -1, -1};
    for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
      const Mode& mode = task.modes[m];
      if (choice.node >= 0) {
        const Mode& chosen = task.modes[choice.mode];
        if (chosen.fixed || (!mode.fixed && mode.time_s >= chosen.time_s)) continue;
      }
      for (const int n : reduced.nodes_of_class[mode.device_class]) {
        if (!can_run(reduced, task, mode, n)) continue;
        choice = {t, n, m};
        break;
      }
    }
    if (choice.node < 0) return {};
    solution.push_back(choice);
  }
  return solution;
}

// Tries to beat the incumbent, or to prove that nothing does, in so many steps.
void decide_exactly(const Reduced& reduced, const SolveOptions& options, std::int64_t steps,
                    Incumbent& incumbent) {
  if (incumbent.finished() || !exactly_searchable(reduced)) return;
  const bool feasible = incumbent.value().feasible;
  const double until_s = incumbent.left_s() * 0.5;
  const ExactOutcome outcome = search_exactly(
      reduced, feasible ? incumbent.value().makespan_s : kNever, steps,
      [&] { return incumbent.finished() || (!options.iterations && incumbent.left_s() < until_s); });
  incumbent.iterations += outcome.nodes;
  incumbent.offer(outcome.solution, "branch and bound");
  if (!outcome.complete || outcome.ends_s == kNever) return;
  // Plans that end within rounding of the best were passed over.
  incumbent.raise_bound(outcome.ends_s * (reduced.integral ? 1.0 : 1.0 - 2e-9), "branch and bound");
}

// Moves that the plan does not need are taken back, one job after another.
void take_moves_back(const Reduced& reduced, Incumbent& incumbent) {
  if (incumbent.value().num_moves == 0) return;
  for (std::size_t i = 0; i < incumbent.solution().size(); ++i) {
    Solution solution = incumbent.solution();
    Choice& choice = solution[i];
    const Task& task = reduced.tasks[choice.task];
    const auto fixed =
        std::find_if(task.modes.begin(), task.modes.end(), [](const Mode& one) { return one.fixed; });
    if (fixed == task.modes.end() || task.modes[choice.mode].fixed) continue;
    choice.mode = static_cast<int>(fixed - task.modes.begin());
    const auto is_there = [&](const Node& node) {
      return node.name == reduced.problem->jobs[task.job].running->node;
    };
    const std::vector<Node>& nodes = reduced.problem->nodes;
    choice.node = static_cast<int>(std::find_if(nodes.begin(), nodes.end(), is_there) - nodes.begin());
    incumbent.offer(solution, incumbent.found_by());
  }
}

// Side constraints or another objective: bounds and a first plan from the problem without them, then the
// general search.
void run_general(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent) {
  incumbent.raise_bound(simple_bound_s(reduced), "area");
  incumbent.offer(first_fit(reduced), "list");
  for (const Solution& solution : {best_list(reduced, capped_allotments(reduced)), minimal_devices(reduced),
                                   current_practice(reduced)}) {
    incumbent.offer(solution, "list");
  }
  const auto steps = [&](std::int64_t usual) {
    return options.proves ? usual : std::min(usual, options.iterations.value_or(usual));
  };
  decide_exactly(reduced, options, steps(kGeneralGlance), incumbent);
  if (incumbent.finished()) return;
  PlanProblem simple = *reduced.problem;
  simple.objective = Objective::makespan;
  Reduced relaxed = relax(reduced);
  relaxed.problem = &simple;
  // The side constraints of `simple` must be gone too: decode asks it for outages.
  for (Node& node : simple.nodes) node.outages.clear();
  SolveOptions part = options;
  part.time_limit_s = incumbent.left_s() * 0.3;
  part.on_progress = nullptr;
  if (options.iterations) part.iterations = *options.iterations / 2;
  Incumbent plain(relaxed, part);
  Pipeline(relaxed, part, plain).run();
  incumbent.iterations += plain.iterations;
  incumbent.raise_bound(plain.bound_s(), plain.bound_by());
  incumbent.offer(restored(reduced, relaxed, plain.solution()), plain.found_by());

  std::int64_t left = options.iterations.value_or(std::int64_t{1} << 50) / 10;
  std::int64_t length = options.iterations ? std::max<std::int64_t>(500, left / 6) : 2000;
  // A small batch with side constraints is rarely proven; it is done when the second half of a long search
  // found nothing. Waiting for the time limit would only keep a run from going on.
  const std::int64_t enough = kGeneralPerTask * static_cast<std::int64_t>(reduced.tasks.size());
  std::int64_t done = 0;
  std::int64_t improved_at = 0;
  for (std::uint64_t round = 0; left > 0 && !incumbent.finished() && !incumbent.solution().empty(); ++round) {
    if (!options.iterations && done > enough && done > 2 * improved_at) return;
    length = std::min(length, left);
    const GeneralResult result = anneal_general(reduced, incumbent.solution(), mix_key(options.seed, round),
                                                {length, [&] { return incumbent.finished(); }});
    incumbent.iterations += result.iterations;
    left -= std::max<std::int64_t>(1, result.iterations);
    done += result.iterations;
    if (incumbent.offer(result.solution, "annealing")) improved_at = done;
    if (round == 2) decide_exactly(reduced, options, steps(kGeneralLook), incumbent);
    length += length / 2;
  }
}

}  // namespace

void run_pipeline(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent) {
  if (reduced.plain) {
    Pipeline(reduced, options, incumbent).run();
  } else {
    run_general(reduced, options, incumbent);
    take_moves_back(reduced, incumbent);
  }
}

}  // namespace saturn::plan
