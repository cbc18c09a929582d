// saturn resume: a paused job goes on from its checkpoint.

#include "cli/request.h"

namespace saturn::cli {
namespace {

struct ResumeArgs {
  std::string directory;
  std::string job;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the job's name");
  }

  Result<int> run(const Context& context) const {
    return ask(directory, {.verb = journal::Request::Verb::resume, .target = job}, context);
  }
};

}  // namespace

CommandEntry resume() {
  return {.name = "resume",
          .summary = "Let a paused job go on from its checkpoint.",
          .example = "saturn resume runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<ResumeArgs>};
}

}  // namespace saturn::cli
