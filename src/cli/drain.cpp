// saturn drain: a device takes no new attempts; what runs there is saved and moves.

#include "cli/request.h"

namespace saturn::cli {
namespace {

struct DrainArgs {
  std::string directory;
  std::string device;
  bool undo = false;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("DEVICE", device, "the device, such as 1 or local:1");
    options.flag("--undo", undo, "let the run use the device again");
  }

  Result<int> run(const Context& context) const {
    const auto verb = undo ? journal::Request::Verb::undrain : journal::Request::Verb::drain;
    return ask(directory, {.verb = verb, .target = device}, context);
  }
};

}  // namespace

CommandEntry drain() {
  return {.name = "drain",
          .summary = "Take a device out of a run; what runs there is saved and moves.",
          .example = "saturn drain runs/kjv-sweep 1",
          .declare = &make_action<DrainArgs>};
}

}  // namespace saturn::cli
