// saturn simulate: what a batch would take on other devices, under other policies, with estimates that are
// off.

#include "saturn/simulate/simulate.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>

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
    options.option("--iterations", "N", iterations, "of each planning", "4000");
    options.option("--seed", "N", seed, "of plans and truths", "1");
    options.flag("--break-even", break_even, "find the interval and the job length where introspection pays");
  }

  Result<int> run(const Context& context) const;

 private:
  Result<plan::PlanProblem> problem(const Context& context) const;
  Result<simulate::Settings> settings() const;
  Result<double> failures_per_day() const;
  Result<Played> play(const plan::PlanProblem& problem, simulate::Settings settings,
                      const Contender& contender, const Context& context) const;
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
  const std::size_t slash = fail.find('/');
  const std::string unit = slash == std::string::npos ? "" : fail.substr(slash + 1);
  double rate = 0.0;
  const char* const end = fail.data() + std::min(slash, fail.size());
  const bool read = std::from_chars(fail.data(), end, rate).ptr == end && std::isfinite(rate) &&
                    rate >= 0.0 && rate <= 1e4 && (unit == "day" || unit == "hour");
  if (read) return unit == "hour" ? 24.0 * rate : rate;
  return Diagnostic{.what = "--fail: " + in_quotes(fail) + " is no rate",
                    .expected = "a number and a unit, N/day or N/hour",
                    .fix = "--fail 2/day"};
}

Result<simulate::Settings> SimulateArgs::settings() const {
  simulate::Settings settings;
  Diagnostics faults;
  const auto take = [&](const char* option, const std::optional<double>& value, double least, double most,
                        double& into) {
    if (!value) return;
    into = *value;
    if (!(*value >= least && *value <= most))
      faults.push_back({.what = std::string(option) + " is out of range",
                        .expected = "from " + format_number(least) + " to " + format_number(most)});
  };
  settings.truth = {.job_error = 0.1, .configuration_error = 0.05, .step_noise = 0.03};
  take("--error", error, 0.0, 2.0, settings.truth.job_error);
  take("--configuration-error", configuration_error, 0.0, 2.0, settings.truth.configuration_error);
  take("--noise", noise, 0.0, 2.0, settings.truth.step_noise);
  take("--drift", drift, 0.0, 2.0, settings.truth.drift);
  take("--introspect-every", introspect_every, 1e-3, 1e9, settings.introspect_every_s);
  take("--start", start, 0.0, 1e6, settings.start_s);
  take("--save", save, 0.0, 1e6, settings.save_s);
  if (runs && (*runs < 1 || *runs > 100000))
    faults.push_back({.what = "--runs is out of range", .expected = "1 to 100000"});
  if (iterations && (*iterations < 1 || *iterations > 1000000000))
    faults.push_back({.what = "--iterations is out of range", .expected = "1 to 1000000000"});
  if (seed && *seed < 0) faults.push_back({.what = "--seed is out of range", .expected = "at least 0"});
  if (!faults.empty()) return faults;
  settings.iterations = iterations.value_or(settings.iterations);
  settings.seed = static_cast<std::uint64_t>(seed.value_or(1));
  SATURN_TRY(settings.truth.failures_per_day, failures_per_day());
  return settings;
}

Result<Played> SimulateArgs::play(const plan::PlanProblem& problem, simulate::Settings settings,
                                  const Contender& contender, const Context& context) const {
  Played played{.contender = contender};
  settings.policy = contender.policy;
  settings.introspects = contender.introspects;
  const std::uint64_t first_seed = settings.seed;
  const view::Terminal terminal = context.quiet ? view::Terminal{} : view::terminal_of(STDERR_FILENO);
  view::LiveArea progress(
      [](const std::string& bytes) { return view::write_if_ready(STDERR_FILENO, bytes); });
  for (std::int64_t i = 0; i < num_runs(); ++i) {
    if (terminal.interactive)
      progress.draw({contender.name + ": " + std::to_string(i) + " of " + std::to_string(num_runs())},
                    terminal);
    settings.seed = first_seed + static_cast<std::uint64_t>(i);
    SATURN_TRY(const simulate::Outcome outcome, simulate::simulate(problem, settings));
    const double share = 1.0 / static_cast<double>(num_runs());
    played.planned_s += share * outcome.planned_s;
    played.makespans_s.push_back(outcome.makespan_s);
    played.moves += share * outcome.num_moves;
    played.looks += share * outcome.num_looks;
    played.failures += share * outcome.num_failures;
  }
  if (terminal.interactive) progress.clear(terminal);
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
  for (const Contender& contender : contenders) {
    SATURN_TRY(Played played, play(problem, settings, contender, context));
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

// The gain of introspection by how often it looks, and by how long the jobs are while moving costs the same.
Result<int> SimulateArgs::find_break_even(const plan::PlanProblem& problem,
                                          const simulate::Settings& settings, const Context& context) const {
  struct Point {
    std::string what;
    double value = 0.0;
    double gain = 0.0;
  };
  std::vector<Point> points;
  const auto gain_of = [&](const plan::PlanProblem& scaled, const simulate::Settings& how) -> Result<double> {
    SATURN_TRY(const Played without, play(scaled, how, {"saturn", "saturn", false}, context));
    SATURN_TRY(const Played with, play(scaled, how, {"saturn-dynamic", "saturn", true}, context));
    return -against(with, without).mean();
  };
  const double bound_s = plan::quick_bound_s(problem);
  for (const double share : {0.003, 0.01, 0.03, 0.1, 0.3}) {
    simulate::Settings how = settings;
    how.introspect_every_s = share * bound_s;
    SATURN_TRY(const double gain, gain_of(problem, how));
    points.push_back({"interval", how.introspect_every_s, gain});
  }
  for (const double scale : {0.003, 0.01, 0.03, 0.1, 0.3, 1.0}) {
    plan::PlanProblem scaled = problem;
    for (plan::Job& job : scaled.jobs) {
      for (plan::Configuration& one : job.configurations) one.time_s *= scale;
    }
    simulate::Settings how = settings;
    how.introspect_every_s = std::min(settings.introspect_every_s, 0.05 * scale * bound_s);
    SATURN_TRY(const double gain, gain_of(scaled, how));
    points.push_back({"makespan", scale * bound_s, gain});
  }
  const auto pays = std::find_if(points.begin(), points.end(), [](const Point& point) {
    return point.what == "makespan" && point.gain > 0.005;
  });
  if (context.json) {
    Json document = {{"name", problem.name}, {"runs", num_runs()}};
    Json& list = document["points"] = Json::array();
    for (const Point& point : points)
      list.push_back({{"varied", point.what}, {"seconds", point.value}, {"gain", point.gain}});
    document["pays_from_makespan_s"] = pays == points.end() ? Json(nullptr) : Json(pays->value);
    print_json(document);
    return 0;
  }
  view::Table lines({{.title = "varied"},
                     {.title = "value", .align = view::Align::right},
                     {.title = "gain of introspection", .align = view::Align::right}});
  for (const Point& point : points)
    lines.add({point.what, format_duration(point.value), format_difference(point.gain, 2)});
  print(lines.text(view::terminal_of(STDOUT_FILENO)) + "\n" +
        (pays == points.end() ? "It does not pay for these jobs.\n"
                              : "It pays from a makespan of about " + format_duration(pays->value) +
                                    " on (a start of " + format_duration(settings.start_s) + ", a save of " +
                                    format_duration(settings.save_s) + ").\n"));
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
