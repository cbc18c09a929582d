// saturn stop: what runs is saved and ended; `saturn run` goes on from there.

#include "cli/request.h"

namespace saturn::cli {
namespace {

struct StopArgs {
  std::string directory;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
  }

  Result<int> run(const Context& context) const {
    return ask(directory, {.verb = journal::Request::Verb::stop}, context);
  }
};

}  // namespace

CommandEntry stop() {
  return {.name = "stop",
          .summary = "Save what runs and end the run, as Ctrl-C does; a second time: at once.",
          .example = "saturn stop runs/kjv-sweep",
          .declare = &make_action<StopArgs>};
}

}  // namespace saturn::cli
