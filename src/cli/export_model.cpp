// saturn export: a job's model as other programs load it, its final weights or those of a checkpoint.

#include <filesystem>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/checkpoint/export.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/journal/run_directory.h"

namespace saturn::cli {
namespace {

struct ExportArgs {
  std::string directory;
  std::string job;
  std::string into;
  std::string dtype = "fp32";
  std::optional<std::int64_t> step;
  bool best = false;
  bool adapter = false;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the name of a job that is done");
    options.positional("DIR", into, "the directory to write");
    options.option("--dtype", "TYPE", dtype, "fp32, bf16 or fp16", "fp32");
    options.option("--step", "N", step, "the weights of the checkpoint of this step", "the final weights");
    options.flag("--best", best, "the weights of the checkpoint with the lowest validation loss");
    options.flag("--adapter", adapter, "of a job with [job.lora]: the adapter alone, as PEFT loads it");
  }

  Result<int> run(const Context& context) const {
    SATURN_TRY(const checkpoint::ExportRequest request, checked());
    SATURN_TRY(const checkpoint::Exported exported, checkpoint::export_model(request));
    if (context.json) {
      print_json({{"directory", into},
                  {"checkpoint", request.checkpoint.empty() ? Json() : Json(request.checkpoint)},
                  {"dtype", dtype},
                  {"num_tensors", exported.num_tensors},
                  {"num_parameters", exported.num_parameters}});
    } else {
      print(into + ": " + format_count(static_cast<double>(exported.num_parameters)) + " parameters in " +
            std::to_string(exported.num_tensors) + " tensors of " + dtype +
            (request.checkpoint.empty() ? "" : ", of " + request.checkpoint) + "\n");
    }
    return 0;
  }

 private:
  Result<checkpoint::ExportRequest> checked() const {
    const journal::RunPaths paths(directory);
    SATURN_TRY(const journal::RunState state, journal::read_run_state(paths));
    const journal::JobRecord* const record = state.find(job);
    if (record == nullptr) {
      std::vector<std::string> names;
      for (const journal::JobRecord& one : state.jobs) names.push_back(one.name);
      return Diagnostic{.where = directory,
                        .what = "job " + in_quotes(job) + " is not in this run",
                        .expected = "one of " + listed(names),
                        .fix = did_you_mean(job, names)};
    }
    const std::string job_directory = join_path(join_path(directory, "jobs"), job);
    if (record->state != journal::JobState::done) {
      return Diagnostic{.where = job_directory,
                        .what = "job " + in_quotes(job) + " is " + to_string(record->state),
                        .expected = "a job that is done: its model's description is written at the end",
                        .fix = "saturn status " + directory};
    }
    checkpoint::ExportRequest request{
        .model_directory = join_path(job_directory, "model"), .checkpoint = {}, .into = into};
    const std::string adapter_directory = join_path(job_directory, "adapter");
    std::error_code ignored;
    if (std::filesystem::exists(join_path(adapter_directory, batch::kAdapterConfig), ignored)) {
      request.adapter_directory = adapter_directory;
    } else if (adapter) {
      return Diagnostic{.where = job_directory,
                        .what = "job " + in_quotes(job) + " trained no adapter",
                        .expected = "a job with [job.lora]",
                        .fix = "leave --adapter out"};
    }
    request.only_adapter = adapter;
    if (dtype == "bf16") {
      request.dtype = formats::Dtype::bf16;
    } else if (dtype == "fp16") {
      request.dtype = formats::Dtype::f16;
    } else if (dtype != "fp32") {
      return Diagnostic{.what = "--dtype " + in_quotes(dtype), .expected = "one of fp32, bf16, fp16"};
    }
    if (best && step)
      return Diagnostic{.what = "both --best and --step are named", .expected = "one of them"};
    const std::string shelf = join_path(job_directory, checkpoint::kShelf);
    if (best) {
      SATURN_TRY(const std::int64_t found, best_in(shelf));
      request.checkpoint = join_path(shelf, checkpoint::name_of_step(found));
    } else if (step) {
      request.checkpoint = join_path(shelf, checkpoint::name_of_step(*step));
    }
    return request;
  }

  static Result<std::int64_t> best_in(const std::string& shelf) {
    std::vector<checkpoint::Kept> all;
    for (const std::int64_t step : checkpoint::steps_in(shelf)) {
      SATURN_TRY(const checkpoint::Manifest manifest,
                 checkpoint::read_manifest(join_path(shelf, checkpoint::name_of_step(step))));
      checkpoint::Kept kept{.step = step, .validation_loss = {}};
      if (manifest.progress.validation) kept.validation_loss = manifest.progress.validation->loss;
      all.push_back(kept);
    }
    if (const auto best = checkpoint::best_of(all)) return *best;
    return Diagnostic{
        .where = shelf,
        .what = "no checkpoint has a validation loss",
        .expected = "checkpoints made after an evaluation",
        .fix = "set checkpoint_every under [run] and evaluate_every in the job, or leave --best out"};
  }
};

}  // namespace

CommandEntry export_model() {
  return {.name = "export",
          .summary = "Write a job's model as safetensors for other programs.",
          .example = "saturn export runs/kjv-sweep gpt2-1e-3-b8 out --dtype bf16",
          .declare = &make_action<ExportArgs>};
}

}  // namespace saturn::cli
