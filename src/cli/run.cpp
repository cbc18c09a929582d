// saturn run: executes the plan, and goes on where the last run in the directory ended.

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cli/stage.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/journal/run_directory.h"
#include "saturn/run/session.h"
#include "saturn/view/report.h"
#include "saturn/view/summary.h"
#include "saturn/view/terminal.h"

namespace saturn::cli {
namespace {

// A plan names the batch it was made from, as a path from where it was made or from beside the plan.
Result<std::string> batch_of_plan(const std::string& plan_path) {
  SATURN_TRY(const Json document, read_artefact(plan_path, plan::kPlanFormat));
  for (const MadeFrom& source : plan::made_from(document)) {
    if (!source.name.ends_with(".toml")) continue;
    std::error_code ignored;
    for (const std::string& path : {source.name, join_path(directory_of(plan_path), source.name)}) {
      if (std::filesystem::exists(path, ignored)) return path;
    }
    return Diagnostic{.where = plan_path + "#/made_from",
                      .what = "the batch of this plan, " + in_quotes(source.name) + ", is not there",
                      .expected = "a batch that exists, from here or beside the plan",
                      .fix = "run from the directory where the plan was made"};
  }
  return Diagnostic{.where = plan_path + "#/made_from",
                    .what = "this plan was not made from a batch",
                    .expected = "a plan made by `saturn plan BATCH`",
                    .fix = "saturn plan BATCH, then `saturn run BATCH`"};
}

// A plan run in another directory brings along the profile it was made from, where that lies beside it:
// measured again, the profile would be another, and the plan stale.
Result<void> bring_profile(const std::string& plan_path, const std::string& profile_path) {
  std::error_code ignored;
  if (std::filesystem::exists(profile_path, ignored)) return {};
  SATURN_TRY(const Json document, read_artefact(plan_path, plan::kPlanFormat));
  for (const MadeFrom& source : plan::made_from(document)) {
    const std::string beside = join_path(directory_of(plan_path), file_name_of(source.name));
    if (source.name.ends_with(".toml") || !std::filesystem::exists(beside, ignored)) continue;
    SATURN_TRY(const std::string digest, digest_of_file(beside));
    if (digest != source.digest) continue;
    SATURN_TRY(const std::string content, read_whole(beside));
    return write_whole(profile_path, content);
  }
  return {};
}

// "0,2" or "node:0,node:2": the devices that may be used; the rest is excluded.
Result<std::vector<plan::Device>> excluded_devices(const std::string& list, const devices::Machine& machine) {
  std::vector<plan::Device> all;
  for (const devices::Node& node : machine.nodes) {
    for (const devices::Device& device : node.devices)
      all.push_back({.node = node.name, .index = device.index});
  }
  if (list.empty()) return std::vector<plan::Device>{};
  const auto text_of = [](const plan::Device& device) {
    return device.node + ":" + std::to_string(device.index);
  };
  std::vector<plan::Device> excluded = all;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t comma = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, comma - begin);
    begin = comma + 1;
    const auto named = [&](const plan::Device& device) {
      return word == text_of(device) || (machine.nodes.size() == 1 && word == std::to_string(device.index));
    };
    if (std::none_of(all.begin(), all.end(), named)) {
      std::string known;
      for (const plan::Device& device : all) known += (known.empty() ? "" : ", ") + text_of(device);
      return Diagnostic{.what = "--devices: there is no device " + in_quotes(word),
                        .expected = "some of " + known,
                        .fix = "`saturn devices` shows them"};
    }
    std::erase_if(excluded, named);
  }
  return excluded;
}

struct RunArgs {
  std::string target;
  std::string directory;
  std::vector<std::string> only;
  std::string devices;
  bool retry_failed = false;

  void declare(Options& options) {
    options.positional("BATCH", target, "the batch file, or a plan.json made from one");
    options.option("--dir", "RUN", directory, "the run directory", "runs/<batch name>");
    options.option("--only", "JOB", only, "run this job and no other (repeatable)");
    options.option("--devices", "LIST", devices, "use these devices only, such as 0,1", "all");
    options.flag("--retry-failed", retry_failed, "try jobs again that failed before");
  }

  Result<int> run(const Context& context) const {
    const bool is_plan = target.ends_with(".json");
    std::string batch_path = target;
    if (is_plan) {
      SATURN_TRY(batch_path, batch_of_plan(target));
    }
    SATURN_TRY(const Stage stage, open_stage(batch_path, directory, context.quiet));
    run::SessionRequest request{.batch = &stage.batch,
                                .machine = &stage.machine,
                                .plan_path = is_plan ? target : "",
                                .only = only,
                                .retry_failed = retry_failed};
    SATURN_TRY(request.excluded, excluded_devices(devices, stage.machine));

    const SystemClock clock;
    SATURN_TRY(journal::RunDirectory held, journal::RunDirectory::open(stage.directory, clock));
    if (is_plan) SATURN_TRY_VOID(bring_profile(target, held.paths().profile()));
    StopSignals signals;
    SATURN_TRY(const std::unique_ptr<worker::Launcher> launcher, open_launcher(clock));
    const std::unique_ptr<run::Planner> planner = run::make_child_planner();
    const std::optional<profile::TrialCache> cache = open_trial_cache(clock);
    view::RunDisplay display(view::stderr_screen(context.quiet), clock);
    TrialProgress trials(context.quiet, clock);
    const Result<run::SessionResult> ran = run::run_session(request, held,
                                                            {.launcher = launcher.get(),
                                                             .clock = &clock,
                                                             .planner = planner.get(),
                                                             .observer = &display,
                                                             .profile_observer = &trials,
                                                             .stop_count =
                                                                 [&signals] {
                                                                   signals.drain();
                                                                   return StopSignals::count();
                                                                 },
                                                             .wake_fds = {signals.fd()},
                                                             .trial_cache = cache ? &*cache : nullptr});
    trials.finish();
    display.finish();
    if (!ran.ok()) {
      if (ran.faults().front().kind != Kind::interrupted) return ran.faults();
      std::fputs(to_text(ran.faults()).c_str(), stderr);
      return exit_code_of_signal();
    }
    return report(*ran, held.paths(), context);
  }

  int report(const run::SessionResult& result, const journal::RunPaths& paths, const Context& context) const {
    // A report that cannot be drawn takes nothing away from the run.
    const Result<std::string> page = view::write_report(paths);
    if (!page.ok()) std::fputs(to_text(page.faults()).c_str(), stderr);
    if (!result.faults.empty()) std::fputs(to_text(result.faults).c_str(), stderr);
    if (context.json) {
      print_json(journal::to_json(result.summary));
    } else {
      print(view::summary_text(result.summary, view::terminal_of(STDOUT_FILENO)));
    }
    if (result.interrupted) {
      std::fprintf(stderr, "interrupted; `saturn run %s` goes on from here\n", target.c_str());
    }
    return result.exit_code;
  }
};

}  // namespace

CommandEntry run() {
  return {.name = "run",
          .summary = "Train every job of a batch by its plan; the same command again resumes.",
          .example = "saturn run configs/kjv-sweep.toml",
          .declare = &make_action<RunArgs>};
}

}  // namespace saturn::cli
