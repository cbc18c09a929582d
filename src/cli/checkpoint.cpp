// saturn checkpoint: the checkpoints of a run's jobs, listed, verified byte by byte, and pruned.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/journal/run_directory.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

namespace fs = std::filesystem;

struct Shelf {
  std::string job;
  std::string path;
};

/// A directory that lies where its name says; a link leads out of the run and is not followed.
bool is_own_directory(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// The shelves of `jobs`, or of all jobs of the run, by name.
Result<std::vector<Shelf>> shelves_of(const std::string& run, const std::vector<std::string>& jobs) {
  const std::string parent = join_path(run, "jobs");
  if (!is_own_directory(parent))
    return Diagnostic{.where = run,
                      .what = "no run has been started here",
                      .expected = "a run directory, such as runs/<batch name>"};
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(parent, error), end; !error && at != end; at.increment(error))
    if (is_own_directory(at->path().string())) names.push_back(at->path().filename().string());
  if (error) return system_fault(parent, "list", error.value());
  std::sort(names.begin(), names.end());

  Diagnostics faults;
  for (const std::string& job : jobs)
    if (std::find(names.begin(), names.end(), job) == names.end())
      faults.push_back(
          {.where = run,
           .what = "job " + in_quotes(job) + " has left nothing in this run",
           .expected = names.empty() ? "a job that has been started" : "some of " + listed(names),
           .fix = did_you_mean(job, names)});
  if (!faults.empty()) return faults;

  std::vector<Shelf> shelves;
  for (const std::string& name : names) {
    if (!jobs.empty() && std::find(jobs.begin(), jobs.end(), name) == jobs.end()) continue;
    const std::string path = join_path(join_path(parent, name), checkpoint::kShelf);
    if (is_own_directory(path)) shelves.push_back({name, path});
  }
  return shelves;
}

std::string written_by(const checkpoint::Manifest& manifest) {
  const auto technique = manifest.written_by.find("technique");
  if (technique == manifest.written_by.end() || !technique->is_string()) return "";
  return technique->get<std::string>() + " x" + std::to_string(manifest.files.size());
}

Json faults_json(const Diagnostics& faults) {
  Json list = Json::array();
  for (const Diagnostic& fault : faults)
    list.push_back({{"where", fault.where}, {"what", fault.what}, {"expected", fault.expected}});
  return list;
}

Json row_of(const Shelf& shelf, std::int64_t step) {
  return {
      {"job", shelf.job}, {"step", step}, {"path", join_path(shelf.path, checkpoint::name_of_step(step))}};
}

struct RunArgs {
  std::string run_directory;
  std::vector<std::string> jobs;

  void declare(Options& options) {
    options.positional("RUN", run_directory, "the run directory, such as runs/sweep");
    options.option("--job", "JOB", jobs, "only this job's; repeatable");
  }
};

// ---- ls

struct ListArgs : RunArgs {
  Result<int> run(const Context& context) const {
    SATURN_TRY(const std::vector<Shelf> shelves, shelves_of(run_directory, jobs));
    Json rows = Json::array();
    view::Table table({{.title = "job"},
                       {.title = "step", .align = view::Align::right},
                       {.title = "size", .align = view::Align::right},
                       {.title = "written by"},
                       {.title = "validation", .align = view::Align::right},
                       {.title = ""}});
    for (const Shelf& shelf : shelves) add(shelf, rows, table);
    if (context.json) {
      print_json({{"checkpoints", std::move(rows)}});
    } else if (rows.empty()) {
      print("no checkpoints\n");
    } else {
      print(table.text(view::terminal_of(STDOUT_FILENO)));
    }
    return 0;
  }

 private:
  static void add(const Shelf& shelf, Json& rows, view::Table& table) {
    const std::vector<std::int64_t> steps = checkpoint::steps_in(shelf.path);
    const std::optional<std::int64_t> latest = checkpoint::latest_in(shelf.path);
    std::vector<Result<checkpoint::Manifest>> manifests;
    std::vector<checkpoint::Kept> all;
    for (const std::int64_t step : steps) {
      manifests.push_back(checkpoint::read_manifest(join_path(shelf.path, checkpoint::name_of_step(step))));
      checkpoint::Kept kept{.step = step, .validation_loss = std::nullopt};
      if (manifests.back().ok() && manifests.back()->progress.validation)
        kept.validation_loss = manifests.back()->progress.validation->loss;
      all.push_back(kept);
    }
    const std::optional<std::int64_t> best = checkpoint::best_of(all);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const Result<checkpoint::Manifest>& manifest = manifests[i];
      Json row = row_of(shelf, steps[i]);
      std::vector<std::string> cells = {shelf.job, std::to_string(steps[i])};
      std::string notes = steps[i] == latest ? "latest" : "";
      if (steps[i] == best) notes += notes.empty() ? "best" : ", best";
      if (manifest.ok()) {
        const std::optional<double> loss = all[i].validation_loss;
        row["bytes"] = manifest->bytes();
        row["written_by"] = manifest->written_by;
        row["validation_loss"] = loss ? Json(*loss) : Json(nullptr);
        cells.push_back(format_bytes(static_cast<double>(manifest->bytes())));
        cells.push_back(written_by(*manifest));
        cells.push_back(loss ? format_number(*loss) : "");
      } else {
        cells.insert(cells.end(), {"", "", ""});
        notes += (notes.empty() ? "damaged: " : ", damaged: ") + manifest.faults().front().what;
      }
      row["latest"] = steps[i] == latest;
      row["best"] = steps[i] == best;
      row["faults"] = manifest.ok() ? Json::array() : faults_json(manifest.faults());
      rows.push_back(std::move(row));
      cells.push_back(notes);
      table.add(std::move(cells));
    }
  }
};

// ---- verify

struct VerifyArgs : RunArgs {
  Result<int> run(const Context& context) const {
    SATURN_TRY(const std::vector<Shelf> shelves, shelves_of(run_directory, jobs));
    Json rows = Json::array();
    Diagnostics all_faults;
    for (const Shelf& shelf : shelves) {
      for (const std::int64_t step : checkpoint::steps_in(shelf.path)) {
        Json row = row_of(shelf, step);
        const std::string path = row["path"].get<std::string>();
        const Result<checkpoint::Manifest> manifest = checkpoint::verify(path);
        const Diagnostics faults = manifest.ok() ? Diagnostics() : manifest.faults();
        row["good"] = manifest.ok();
        row["faults"] = faults_json(faults);
        rows.push_back(std::move(row));
        if (!context.json && !context.quiet) print(path + (manifest.ok() ? ": good\n" : ": damaged\n"));
        all_faults.insert(all_faults.end(), faults.begin(), faults.end());
      }
    }
    if (context.json) {
      print_json({{"checkpoints", std::move(rows)}});
      return all_faults.empty() ? 0 : exit_code(all_faults);
    }
    if (!all_faults.empty()) return all_faults;
    if (rows.empty()) print("no checkpoints\n");
    return 0;
  }
};

// ---- prune

struct PruneArgs : RunArgs {
  std::optional<std::int64_t> keep;

  void declare(Options& options) {
    RunArgs::declare(options);
    options.option("--keep", "N", keep, "how many of each job stay, beside its best", "2");
  }

  Result<int> run(const Context& context) const {
    if (keep.value_or(2) < 1)
      return Diagnostic{.what = "--keep " + std::to_string(*keep) + " would leave nothing to resume from",
                        .expected = "at least 1"};
    SATURN_TRY(const std::vector<Shelf> shelves, shelves_of(run_directory, jobs));
    // What runs writes and prunes its checkpoints itself.
    const SystemClock clock;
    SATURN_TRY(const journal::RunDirectory held, journal::RunDirectory::open(run_directory, clock));
    Json rows = Json::array();
    for (const Shelf& shelf : shelves) {
      SATURN_TRY(const std::vector<std::int64_t> removed,
                 checkpoint::prune(shelf.path, static_cast<int>(keep.value_or(2))));
      for (const std::int64_t step : removed) {
        rows.push_back(row_of(shelf, step));
        if (!context.json && !context.quiet)
          print("removed " + join_path(shelf.path, checkpoint::name_of_step(step)) + "\n");
      }
    }
    if (context.json) print_json({{"removed", std::move(rows)}});
    return 0;
  }
};

}  // namespace

CommandEntry checkpoint() {
  return {.name = "checkpoint",
          .summary = "List, verify or prune the checkpoints of a run's jobs.",
          .example = "saturn checkpoint ls runs/kjv-sweep",
          .declare = nullptr,
          .subcommands = {{.name = "ls",
                           .summary = "List the checkpoints of a run's jobs.",
                           .example = "saturn checkpoint ls runs/kjv-sweep --job gpt2-1e-3-b16",
                           .declare = &make_action<ListArgs>},
                          {.name = "verify",
                           .summary = "Read every byte of a run's checkpoints against its digest.",
                           .example = "saturn checkpoint verify runs/kjv-sweep",
                           .declare = &make_action<VerifyArgs>},
                          {.name = "prune",
                           .summary = "Remove all checkpoints but the newest of each job and its best.",
                           .example = "saturn checkpoint prune runs/kjv-sweep --keep 1",
                           .declare = &make_action<PruneArgs>}}};
}

}  // namespace saturn::cli
