// saturn add: the jobs of another batch join a run, and the plan is solved again.

#include <filesystem>

#include "cli/request.h"
#include "saturn/batch/batch.h"

namespace saturn::cli {
namespace {

struct AddArgs {
  std::string directory;
  std::string batch_path;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("BATCH", batch_path, "a batch file with the new jobs");
  }

  Result<int> run(const Context& context) const {
    // Its faults are told here, at their lines, before anybody is asked.
    SATURN_TRY_VOID(batch::read_batch(batch_path));
    const std::string path = std::filesystem::absolute(batch_path).lexically_normal().string();
    return ask(directory, {.verb = journal::Request::Verb::add, .target = path}, context);
  }
};

}  // namespace

CommandEntry add() {
  return {.name = "add",
          .summary = "Add the jobs of another batch to a run, also while it runs.",
          .example = "saturn add runs/kjv-sweep more.toml",
          .declare = &make_action<AddArgs>};
}

}  // namespace saturn::cli
