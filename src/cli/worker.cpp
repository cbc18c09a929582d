// saturn worker: a rank, started by the controller and by nobody else; the only command with LibTorch in it.

#include <sys/prctl.h>

#include <cstdlib>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/devices/nvml.h"
#include "saturn/worker/rank_channel.h"
#include "saturn/worker/train_library.h"

namespace saturn::cli {
namespace {

// The controller learns in its own words why this worker is none.
Diagnostics refused(int control_fd, Diagnostics faults) {
  auto channel = worker::RankChannel::open(control_fd);
  if (!channel.ok()) return std::move(channel).faults();
  const Diagnostic& first = faults.front();
  (*channel)->send(worker::Error{.error_class = worker::ErrorClass::bad_configuration,
                                 .message = (first.where.empty() ? "" : first.where + ": ") + first.what});
  return faults;
}

struct WorkerArgs {
  std::optional<std::int64_t> fd;
  bool probe = false;
  bool about = false;
  std::string catalogue;

  void declare(Options& options) {
    options.option("--fd", "N", fd, "descriptor of the controller's stream");
    options.flag("--probe", probe, "print the GPUs as JSON and exit");
    options.option("--catalogue", "FILE", catalogue,
                   "ask the technique's library that the file names, print its answers as JSON and exit");
    options.flag("--about", about, "load the training library, print what it is as JSON and exit");
  }

  Result<int> run(const Context&) const {
    ::prctl(PR_SET_NAME, "saturn-worker");
    if (probe) {
      print_json(devices::to_json(devices::list_gpus(worker::is_cuda_build())));
      return 0;
    }
    if (!about && !fd && catalogue.empty()) {
      return Diagnostic{.what = "`saturn worker` is started by saturn itself, with --fd",
                        .expected = "a command for people",
                        .fix = "saturn run BATCH"};
    }
    Result<worker::TrainLibrary> library = worker::open_train_library();
    if (about) {
      if (!library.ok()) return std::move(library).faults();
      SATURN_TRY(Json told, parse_json(library->about(), library->path));
      told["path"] = library->path;
      print_json(told);
      return 0;
    }
    if (!catalogue.empty()) {
      if (!library.ok()) return std::move(library).faults();
      SATURN_TRY(const std::string request, read_whole(catalogue));
      if (library->catalogue == nullptr) {
        return Diagnostic{.kind = Kind::machine,
                          .where = library->path,
                          .what = "this training library opens no others",
                          .expected = "executable and library of one build"};
      }
      char* const reply = library->catalogue(request.c_str());
      print(std::string(reply) + "\n");
      std::free(reply);
      return 0;
    }
    if (!library.ok()) return refused(static_cast<int>(*fd), std::move(library).faults());
    return library->train_main(static_cast<int>(*fd));
  }
};

}  // namespace

CommandEntry worker() {
  return {.name = "worker",
          .summary = "Train as one rank of a job, as the controller says.",
          .example = "",
          .declare = &make_action<WorkerArgs>,
          .hidden = true};
}

}  // namespace saturn::cli
