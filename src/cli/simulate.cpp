// saturn simulate: what a batch would take on other devices, under other policies, with estimates that are
// off.

#include "saturn/simulate/simulate.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <thread>

#include "cli/command.h"
#include "cli/stage.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/plan/solve.h"
#include "saturn/profile/job_time.h"
#include "saturn/view/live_area.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

constexpr const char* kDynamic = "-dynamic";

// A policy by name; "saturn-dynamic" re-plans while running.
struct Contender {
  std::string name;
  std::string policy;
  bool introspects = false;
};

struct Played {
  Contender contender;
  double planned_s = 0.0;
  std::vector<double> makespans_s;  // by run, the same truths in the same order for every contender
  double moves = 0.0;               // mean
  double looks = 0.0;
  double failures = 0.0;
};

Result<Contender> contender_from(const std::string& name) {
  Contender contender{.name = name, .policy = name};
  const std::size_t at = name.rfind(kDynamic);
  if (at != std::string::npos && at + std::string(kDynamic).size() == name.size()) {
    contender.policy = name.substr(0, at);
    contender.introspects = true;
  }
  std::vector<std::string> names;
  for (const plan::Policy& policy : plan::policies()) {
    names.push_back(policy.name);
    if (contender.policy == policy.name) return contender;
  }
  return Diagnostic{.what = "policy " + in_quotes(name) + " does not exist",
                    .expected = "one of " + listed(names) + ", each also with " + kDynamic,
                    .fix = did_you_mean(contender.policy, names)};
}

struct SimulateArgs {
  std::string batch;
  std::string profile;
  std::string table;
  std::string devices;
  std::vector<std::string> classes;
  std::vector<std::string> policies;
  std::string fail;
  std::optional<std::int64_t> runs;
  std::optional<std::int64_t> processes;
  std::optional<std::int64_t> iterations;
  std::optional<std::int64_t> seed;
  std::optional<double> error;
  std::optional<double> configuration_error;
  std::optional<double> noise;
  std::optional<double> drift;
  std::optional<double> introspect_every;
  std::optional<double> start;
  std::optional<double> save;
  bool break_even = false;

  void declare(Options& options) {
    options.optional_positional("BATCH", batch, "the batch file; its profile must have been measured");
    options.option("--profile", "FILE", profile, "measurements to simulate from", "the run directory's");
    options.option("--table", "FILE", table, "simulate a bare table of measured configurations instead");
    options.option("--devices", "NxM", devices, "on N nodes of M devices; :CLASS names another class");
    options.option("--class", "NAME:SPEED", classes, "devices SPEED times as fast as the first node's");
    options.option("--policy", "NAME", policies, "a policy, or NAME-dynamic with introspection; repeatable");
    options.option("--runs", "N", runs, "simulations of each policy, in pairs", "20");
    options.option("--error", "SHARE", error, "a job's estimates are off by, as 0.3", "0.1");
    options.option("--configuration-error", "SHARE", configuration_error, "each configuration's on top",
                   "0.05");
    options.option("--noise", "SHARE", noise, "deviation of steps around their mean", "0.03");
    options.option("--drift", "SHARE", drift, "deviation of the slow-down until a job's end", "0");
    options.option("--fail", "N/day", fail, "failures of each device", "0/day");
    options.option("--introspect-every", "SEC", introspect_every, "longest time between two looks", "1000");
    options.option("--start", "SEC", start, "starting a job, where the estimates do not say", "30");
    options.option("--save", "SEC", save, "a checkpoint, saved or loaded, likewise", "15");
    options.option("--iterations", "N", iterations, "of each search; ten times that of the first", "10000");
    options.option("--processes", "N", processes, "that share the runs", "the cores");
    options.option("--seed", "N", seed, "of plans and truths", "1");
    options.flag("--break-even", break_even, "find from which interval and length on looking pays");
  }

  Result<int> run(const Context& context) const;

 private:
  Result<plan::PlanProblem> problem(const Context& context) const;
  Result<simulate::Settings> settings() const;
  Result<double> failures_per_day() const;
  Result<Played> play(const simulate::Simulation& simulation, const Contender& contender,
                      const Context& context) const;
  int num_processes() const;
  Result<int> compare(const plan::PlanProblem& problem, const simulate::Settings& settings,
                      const Context& context) const;
  Result<int> find_break_even(const plan::PlanProblem& problem, const simulate::Settings& settings,
                              const Context& context) const;
  std::int64_t num_runs() const { return runs.value_or(20); }
};

Result<plan::PlanProblem> SimulateArgs::problem(const Context& context) const {
  if (table.empty() == batch.empty()) {
    return Diagnostic{.what = table.empty() ? "nothing to simulate was given"
                                            : "a batch and a table cannot be simulated together",
                      .expected = "BATCH, or --table FILE",
                      .fix = "saturn simulate configs/kjv-sweep.toml"};
  }
  plan::PlanProblem problem;
  if (!table.empty()) {
    SATURN_TRY(problem, plan::read_table(table));
  } else {
    SATURN_TRY(const batch::Batch read, read_batch(batch, context.quiet));
    const std::string measured =
        profile.empty() ? journal::RunPaths(journal::default_run_directory(read.name)).profile() : profile;
    SATURN_TRY(const profile::Profile known, profile::read_profile(measured));
    SATURN_TRY(const auto num_steps, profile::num_steps_of(read));
    SATURN_TRY(problem, profile::to_plan_problem(read, known, num_steps));
  }
  for (const std::string& one : classes) {
    SATURN_TRY(problem, simulate::with_class(std::move(problem), one));
  }
  if (devices.empty()) return problem;
  return simulate::on_devices(std::move(problem), devices);
}

Result<double> SimulateArgs::failures_per_day() const {
  if (fail.empty()) return 0.0;
  const std::size_t slash = std::min(fail.find('/'), fail.size());
  const std::string unit = fail.substr(std::min(slash + 1, fail.size()));
  double rate = 0.0;
  const auto [stopped, error] = std::from_chars(fail.data(), fail.data() + slash, rate);
  const bool read = error == std::errc() && stopped == fail.data() + slash && rate >= 0.0 && rate <= 1e4 &&
                    (unit == "day" || unit == "hour");
  if (read) return unit == "hour" ? 24.0 * rate : rate;
  return Diagnostic{.what = "--fail: " + in_quotes(fail) + " is no rate",
                    .expected = "a number up to 10000 and a unit, N/day or N/hour",
                    .fix = "--fail 2/day"};
}

Result<simulate::Settings> SimulateArgs::settings() const {
  simulate::Settings settings;
  settings.truth = {.job_error = 0.1, .configuration_error = 0.05, .step_noise = 0.03};
  Diagnostics faults;
  const auto take = [&](const char* option, const auto& value, double least, double most, double usual) {
    if (!value) return;
    const auto number = static_cast<double>(*value);
    if (number >= least && number <= most) return;
    faults.push_back({.what = std::string(option) + " " + format_number(number) + " is out of range",
                      .expected = "from " + format_number(least) + " to " + format_number(most),
                      .fix = std::string(option) + " " + format_number(usual)});
  };
  take("--error", error, 0.0, 2.0, 0.3);
  take("--configuration-error", configuration_error, 0.0, 2.0, 0.05);
  take("--noise", noise, 0.0, 2.0, 0.03);
  take("--drift", drift, 0.0, 2.0, 0.3);
  take("--introspect-every", introspect_every, 1e-3, 1e9, 1000.0);
  take("--start", start, 0.0, 1e6, 30.0);
  take("--save", save, 0.0, 1e6, 15.0);
  take("--runs", runs, 1.0, 1e5, 20.0);
  take("--iterations", iterations, 1.0, 1e8, 10000.0);
  take("--processes", processes, 1.0, 1024.0, 2.0);
  take("--seed", seed, 0.0, 1e15, 1.0);
  if (!faults.empty()) return faults;
  simulate::Truth& truth = settings.truth;
  truth.job_error = error.value_or(truth.job_error);
  truth.configuration_error = configuration_error.value_or(truth.configuration_error);
  truth.step_noise = noise.value_or(truth.step_noise);
  truth.drift = drift.value_or(truth.drift);
  settings.introspect_every_s = introspect_every.value_or(settings.introspect_every_s);
  settings.start_s = start.value_or(settings.start_s);
  settings.save_s = save.value_or(settings.save_s);
  settings.iterations = iterations.value_or(settings.iterations);
  settings.first_iterations = 10 * settings.iterations;
  settings.seed = static_cast<std::uint64_t>(seed.value_or(1));
  SATURN_TRY(truth.failures_per_day, failures_per_day());
  return settings;
}

int SimulateArgs::num_processes() const {
  return static_cast<int>(processes.value_or(std::max(1u, std::thread::hardware_concurrency())));
}

Result<Played> SimulateArgs::play(const simulate::Simulation& simulation, const Contender& contender,
                                  const Context& context) const {
  const view::Terminal terminal = context.quiet ? view::Terminal{} : view::terminal_of(STDERR_FILENO);
  view::LiveArea progress(
      [](const std::string& bytes) { return view::write_if_ready(STDERR_FILENO, bytes); });
  const auto draw = [&](int done) {
    progress.draw({contender.name + ": " + std::to_string(done) + " of " + std::to_string(num_runs())},
                  terminal);
  };
  const Result<std::vector<simulate::Outcome>> outcomes =
      simulation.runs(contender.introspects, static_cast<int>(num_runs()), num_processes(),
                      terminal.interactive ? draw : std::function<void(int)>());
  if (terminal.interactive) progress.clear(terminal);
  if (!outcomes.ok()) return outcomes.faults();
  Played played{.contender = contender};
  const double share = 1.0 / static_cast<double>(num_runs());
  for (const simulate::Outcome& outcome : *outcomes) {
    played.planned_s += share * outcome.planned_s;
    played.makespans_s.push_back(outcome.makespan_s);
    played.moves += share * outcome.num_moves;
    played.looks += share * outcome.num_looks;
    played.failures += share * outcome.num_failures;
  }
  return played;
}

// Makespans over those of the first contender, run by run, minus 1.
simulate::Distribution against(const Played& played, const Played& first) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < played.makespans_s.size(); ++i)
    ratios.push_back(played.makespans_s[i] / first.makespans_s[i] - 1.0);
  return simulate::Distribution(std::move(ratios));
}

Result<int> SimulateArgs::compare(const plan::PlanProblem& problem, const simulate::Settings& settings,
                                  const Context& context) const {
  std::vector<Contender> contenders;
  const std::vector<std::string> names =
      policies.empty() ? std::vector<std::string>{"saturn", "saturn-dynamic", "current-practice"} : policies;
  for (const std::string& name : names) {
    SATURN_TRY(Contender contender, contender_from(name));
    contenders.push_back(std::move(contender));
  }
  std::vector<Played> all;
  std::map<std::string, simulate::Simulation> simulations;  // by policy: with introspection and without
  for (const Contender& contender : contenders) {
    if (!simulations.contains(contender.policy)) {
      simulate::Settings own = settings;
      own.policy = contender.policy;
      SATURN_TRY(simulations[contender.policy], simulate::Simulation::prepare(problem, own));
    }
    SATURN_TRY(Played played, play(simulations.at(contender.policy), contender, context));
    all.push_back(std::move(played));
  }
  if (context.json) {
    Json document = {{"name", problem.name}, {"jobs", problem.jobs.size()}, {"runs", num_runs()}};
    Json& list = document["policies"] = Json::array();
    for (const Played& played : all) {
      const simulate::Distribution times(played.makespans_s);
      const simulate::Distribution over = against(played, all.front());
      list.push_back({{"policy", played.contender.name},
                      {"planned_s", played.planned_s},
                      {"mean_s", times.mean()},
                      {"median_s", times.at(0.5)},
                      {"p90_s", times.at(0.9)},
                      {"worst_s", times.at(1.0)},
                      {"over_first_mean", over.mean()},
                      {"over_first_worst", over.at(1.0)},
                      {"over_first_best", over.at(0.0)},
                      {"moves", played.moves},
                      {"looks", played.looks},
                      {"failures", played.failures},
                      {"makespans_s", played.makespans_s}});
    }
    print_json(document);
    return 0;
  }
  using view::Align;
  view::Table lines({{.title = "policy"},
                     {.title = "planned", .align = Align::right},
                     {.title = "mean", .align = Align::right},
                     {.title = "median", .align = Align::right},
                     {.title = "90 %", .align = Align::right},
                     {.title = "worst", .align = Align::right},
                     {.title = "over " + all.front().contender.name, .align = Align::right},
                     {.title = "at worst", .align = Align::right},
                     {.title = "moves", .align = Align::right}});
  for (const Played& played : all) {
    const simulate::Distribution times(played.makespans_s);
    const simulate::Distribution over = against(played, all.front());
    lines.add({played.contender.name, format_duration(played.planned_s), format_duration(times.mean()),
               format_duration(times.at(0.5)), format_duration(times.at(0.9)), format_duration(times.at(1.0)),
               format_difference(over.mean(), 2), format_difference(over.at(1.0), 2),
               format_number(played.moves)});
  }
  print(lines.text(view::terminal_of(STDOUT_FILENO)));
  return 0;
}

// What introspection gained over the same truths without it.
struct Gained {
  std::string varied;  // "interval" or "makespan"
  double value_s = 0.0;
  double mean = 0.0;
  double error = 0.0;  // standard error of the mean

  bool pays() const { return mean > 2.0 * error && mean > 0.0; }
};

Gained gained(const std::string& varied, double value_s, const Played& with, const Played& without) {
  const simulate::Distribution over = against(with, without);
  const auto count = static_cast<double>(over.sorted.size());
  double squares = 0.0;
  for (const double ratio : over.sorted) squares += (ratio - over.mean()) * (ratio - over.mean());
  return {.varied = varied,
          .value_s = value_s,
          .mean = 0.0 - over.mean(),  // no -0

          .error = count > 1.0 ? std::sqrt(squares / (count - 1.0) / count) : 0.0};
}

// The longest interval, and the shortest makespan, from which on every point pays; null where none does.
const Gained* longest_interval(const std::vector<Gained>& points) {
  const Gained* found = nullptr;
  for (const Gained& point : points) {
    if (point.varied != "interval") continue;
    if (!point.pays()) break;
    found = &point;
  }
  return found;
}

const Gained* shortest_makespan(const std::vector<Gained>& points) {
  const Gained* found = nullptr;
  for (auto point = points.rbegin(); point != points.rend() && point->varied == "makespan"; ++point) {
    if (!point->pays()) break;
    found = &*point;
  }
  return found;
}

// The gain of introspection by how often it looks, and by how long the jobs are while moving costs the same.
Result<int> SimulateArgs::find_break_even(const plan::PlanProblem& problem,
                                          const simulate::Settings& settings, const Context& context) const {
  std::vector<Gained> points;
  const double bound_s = plan::quick_bound_s(problem);
  const auto add = [&](const std::string& varied, const plan::PlanProblem& scaled,
                       const simulate::Settings& how) -> Result<void> {
    SATURN_TRY(const simulate::Simulation simulation, simulate::Simulation::prepare(scaled, how));
    SATURN_TRY(const Played without, play(simulation, {"saturn", "saturn", false}, context));
    SATURN_TRY(const Played with, play(simulation, {"saturn-dynamic", "saturn", true}, context));
    const double value_s = varied == "interval" ? how.introspect_every_s : simulation.first_plan().makespan_s;
    points.push_back(gained(varied, value_s, with, without));
    return {};
  };
  for (const double share : {0.003, 0.03, 0.3, 3.0}) {
    simulate::Settings how = settings;
    how.introspect_every_s = share * bound_s;
    SATURN_TRY_VOID(add("interval", problem, how));
  }
  for (const double scale : {0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0}) {
    plan::PlanProblem scaled = problem;
    for (plan::Job& job : scaled.jobs) {
      for (plan::Configuration& one : job.configurations) one.time_s *= scale;
    }
    simulate::Settings how = settings;
    how.introspect_every_s = std::min(settings.introspect_every_s, 0.05 * scale * bound_s);
    SATURN_TRY_VOID(add("makespan", scaled, how));
  }
  const Gained* const interval = longest_interval(points);
  const Gained* const makespan = shortest_makespan(points);
  if (context.json) {
    Json document = {{"name", problem.name}, {"runs", num_runs()}};
    Json& list = document["points"] = Json::array();
    for (const Gained& point : points)
      list.push_back({{"varied", point.varied},
                      {"seconds", point.value_s},
                      {"gain", point.mean},
                      {"standard_error", point.error},
                      {"pays", point.pays()}});
    document["pays_up_to_interval_s"] = interval == nullptr ? Json(nullptr) : Json(interval->value_s);
    document["pays_from_makespan_s"] = makespan == nullptr ? Json(nullptr) : Json(makespan->value_s);
    print_json(document);
    return 0;
  }
  view::Table lines({{.title = "varied"},
                     {.title = "value", .align = view::Align::right},
                     {.title = "gain of introspection", .align = view::Align::right},
                     {.title = "error of that", .align = view::Align::right},
                     {.title = "pays"}});
  for (const Gained& point : points)
    lines.add({point.varied, format_duration(point.value_s), format_difference(point.mean, 2),
               format_percent(point.error, 2), point.pays() ? "yes" : "no"});
  std::string verdict = makespan == nullptr
                            ? "It does not pay for these jobs, however long.\n"
                            : "It pays from a makespan of about " + format_duration(makespan->value_s) +
                                  " on (a start of " + format_duration(settings.start_s) + ", a save of " +
                                  format_duration(settings.save_s) + ").\n";
  verdict += interval == nullptr ? "It does not pay at any interval.\n"
                                 : "It pays at intervals up to " + format_duration(interval->value_s) +
                                       "; ends of jobs and wrong estimates are looked at in any case.\n";
  print(lines.text(view::terminal_of(STDOUT_FILENO)) + "\n" + verdict);
  return 0;
}

Result<int> SimulateArgs::run(const Context& context) const {
  SATURN_TRY(const simulate::Settings settings, this->settings());
  SATURN_TRY(const plan::PlanProblem problem, this->problem(context));
  return break_even ? find_break_even(problem, settings, context) : compare(problem, settings, context);
}

}  // namespace

CommandEntry simulate() {
  return {
      .name = "simulate",
      .summary = "Play a batch on a virtual clock: other devices, other policies, estimates that are off.",
      .example = "saturn simulate --table table.json --devices 4x8 --error 0.3",
      .declare = &make_action<SimulateArgs>};
}

}  // namespace saturn::cli
