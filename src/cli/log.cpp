// saturn log: the log of one job of a run, or of one of its ranks, followed while it grows.

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/signals.h"
#include "saturn/journal/run_directory.h"

namespace saturn::cli {
namespace {

constexpr int kFollowMs = 200;

// Copies what has been appended to stdout; a log that was cut since is read from its new beginning.
Result<void> copy_rest(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) == 0 && status.st_size < ::lseek(fd, 0, SEEK_CUR)) ::lseek(fd, 0, SEEK_SET);
  for (;;) {
    char bytes[1 << 14];
    const ssize_t n = ::read(fd, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_fault(path, "read", errno);
    if (n == 0) return {};
    print(std::string(bytes, static_cast<std::size_t>(n)));
  }
}

struct LogArgs {
  std::string directory;
  std::string job;
  std::optional<std::int64_t> rank;
  bool follow = false;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.positional("JOB", job, "the job's name");
    options.option("--rank", "N", rank, "the log of another rank", "0");
    options.flag("--follow", follow, "go on printing until the run ends");
  }

  Result<int> run(const Context&) const {
    const journal::RunPaths paths(directory);
    SATURN_TRY(const journal::RunState state, journal::read_run_state(paths));
    if (state.find(job) == nullptr) {
      std::vector<std::string> names;
      for (const journal::JobRecord& record : state.jobs) names.push_back(record.name);
      return Diagnostic{.where = directory,
                        .what = "job " + in_quotes(job) + " is not in this run",
                        .expected = "one of " + listed(names),
                        .fix = did_you_mean(job, names)};
    }
    const std::string path = paths.log(job, static_cast<int>(rank.value_or(0)));
    const FileDescriptor log(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!log.valid()) {
      Diagnostic fault = system_fault(path, "open", errno);
      if (errno == ENOENT) fault.expected = "a job, and a rank of it, that has been started";
      return fault;
    }
    StopSignals signals;
    for (;;) {
      const bool last = !follow || StopSignals::count() > 0 || !journal::is_locked(paths);
      SATURN_TRY_VOID(copy_rest(log.get(), path));
      if (last) return 0;
      pollfd wake{.fd = signals.fd(), .events = POLLIN, .revents = 0};
      ::poll(&wake, 1, kFollowMs);
    }
  }
};

}  // namespace

CommandEntry log() {
  return {.name = "log",
          .summary = "Print the log of one job of a run.",
          .example = "saturn log runs/kjv-sweep gpt2-1e-3-b16 --follow",
          .declare = &make_action<LogArgs>};
}

}  // namespace saturn::cli
