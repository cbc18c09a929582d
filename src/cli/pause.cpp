// saturn pause: a job saves a checkpoint, gives its devices back, and waits.

#include "cli/request.h"

namespace saturn::cli {
namespace {

struct PauseArgs {
  std::string directory;
  std::string job;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the job's name");
  }

  Result<int> run(const Context& context) const {
    return ask(directory, {.verb = journal::Request::Verb::pause, .target = job}, context);
  }
};

}  // namespace

CommandEntry pause() {
  return {.name = "pause",
          .summary = "Save a job of a run and let it wait; the others take its devices.",
          .example = "saturn pause runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<PauseArgs>};
}

}  // namespace saturn::cli
