// saturn cancel: a job ends without a result; the others go on.

#include "cli/request.h"

namespace saturn::cli {
namespace {

struct CancelArgs {
  std::string directory;
  std::string job;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the job's name");
  }

  Result<int> run(const Context& context) const {
    return ask(directory, {.verb = journal::Request::Verb::cancel, .target = job}, context);
  }
};

}  // namespace

CommandEntry cancel() {
  return {.name = "cancel",
          .summary = "End a job of a run without a result; the others go on.",
          .example = "saturn cancel runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<CancelArgs>};
}

}  // namespace saturn::cli
