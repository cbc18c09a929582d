// saturn pause, resume and cancel: what a run is asked to do with one of its jobs.

#include "cli/request.h"

namespace saturn::cli {
namespace {

using Verb = journal::Request::Verb;

template <Verb verb>
struct JobRequestArgs {
  std::string directory;
  std::string job;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the job's name");
  }

  Result<int> run(const Context& context) const {
    return ask(directory, {.verb = verb, .target = job}, context);
  }
};

}  // namespace

CommandEntry pause() {
  return {.name = "pause",
          .summary = "Save a job of a run and let it wait; the others take its devices.",
          .example = "saturn pause runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<JobRequestArgs<Verb::pause>>};
}

CommandEntry resume() {
  return {.name = "resume",
          .summary = "Let a paused job go on from its checkpoint.",
          .example = "saturn resume runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<JobRequestArgs<Verb::resume>>};
}

CommandEntry cancel() {
  return {.name = "cancel",
          .summary = "End a job of a run without a result; the others go on.",
          .example = "saturn cancel runs/kjv-sweep gpt2-1e-3-b16",
          .declare = &make_action<JobRequestArgs<Verb::cancel>>};
}

}  // namespace saturn::cli
