// Planning in a forked child, or in place.

#include "saturn/run/planner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "saturn/base/files.h"

namespace saturn::run {
namespace {

constexpr int kNiceness = 10;
constexpr const char* kFrom = "planner";  // stands for a path in faults of what the child wrote

Json fault_to_json(const Diagnostic& fault) {
  return {{"kind", static_cast<int>(fault.kind)},
          {"where", fault.where},
          {"what", fault.what},
          {"expected", fault.expected},
          {"fix", fault.fix}};
}

Json result_to_json(const Result<plan::Plan>& result) {
  Json document = Json::object();
  if (result.ok()) {
    document["plan"] = plan::to_json(*result, {});
    return document;
  }
  Json& faults = document["faults"] = Json::array();
  for (const Diagnostic& fault : result.faults()) faults.push_back(fault_to_json(fault));
  return document;
}

Result<plan::Plan> result_from_text(const std::string& text) {
  SATURN_TRY(const Json document, parse_json(text, kFrom));
  if (document.contains("plan")) return plan::plan_from_json(document["plan"], kFrom);
  Diagnostics read_faults;
  JsonReader reader(document, kFrom, "", read_faults);
  Diagnostics faults;
  const Json& carried = reader.array("faults");
  for (std::size_t i = 0; i < carried.size(); ++i) {
    JsonReader entry = reader.child("faults", i);
    faults.push_back({.kind = static_cast<Kind>(entry.integer("kind")),
                      .where = entry.string("where"),
                      .what = entry.string("what"),
                      .expected = entry.string("expected"),
                      .fix = entry.string("fix")});
  }
  if (!read_faults.empty()) return read_faults;
  return faults;
}

void write_everything(int fd, const std::string& text) {
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t n = ::write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno != EINTR) return;  // nobody reads any more
    if (n > 0) written += static_cast<std::size_t>(n);
  }
}

class ChildPlanner final : public Planner {
 public:
  ~ChildPlanner() override { cancel(); }

  Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& options) override {
    SATURN_CHECK(!busy(), "one problem is planned at a time");
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) return system_fault("planner", "open a pipe", errno);
    FileDescriptor read_end(ends[0]);
    const FileDescriptor write_end(ends[1]);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) return system_fault("planner", "start a process", errno);
    if (child == 0) solve_and_exit(problem, options, write_end.get(), parent);
    ::setpgid(child, child);  // both sides set it: whoever comes first
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
    child_ = child;
    read_end_ = std::move(read_end);
    text_.clear();
    return {};
  }

  bool busy() const override { return child_ > 0; }
  int fd() const override { return read_end_.get(); }

  std::optional<Result<plan::Plan>> take() override {
    if (!busy()) return std::nullopt;
    for (;;) {
      char bytes[1 << 14];
      const ssize_t n = ::read(read_end_.get(), bytes, sizeof bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return std::nullopt;  // EAGAIN: still at work
      if (n == 0) break;
      text_.append(bytes, static_cast<std::size_t>(n));
    }
    const int status = reap();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return result_from_text(text_);
    const std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                                : "exit code " + std::to_string(WEXITSTATUS(status));
    return Result<plan::Plan>(
        Diagnostic{.kind = Kind::machine,
                   .what = "the planner's process ended with " + how,
                   .expected = "a plan",
                   .fix = "run the same command again, with a shorter [plan] time_limit"});
  }

  void cancel() override {
    if (!busy()) return;
    ::kill(-child_, SIGKILL);
    reap();
  }

 private:
  [[noreturn]] static void solve_and_exit(const plan::PlanProblem& problem, plan::SolveOptions options,
                                          int fd, pid_t parent) {
    ::setpgid(0, 0);
    for (const int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(signal_number, SIG_DFL);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::setpriority(PRIO_PROCESS, 0, kNiceness);
    options.stop = nullptr;
    options.on_progress = nullptr;
    write_everything(fd, to_line(result_to_json(plan::solve(problem, options))));
    ::_exit(0);
  }

  int reap() {
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = 0;
    read_end_.reset();
    return status;
  }

  pid_t child_ = 0;
  FileDescriptor read_end_;
  std::string text_;
};

class InlinePlanner final : public Planner {
 public:
  Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& options) override {
    SATURN_CHECK(!busy(), "one problem is planned at a time");
    result_ = plan::solve(problem, options);
    return {};
  }
  bool busy() const override { return result_.has_value(); }
  int fd() const override { return -1; }
  std::optional<Result<plan::Plan>> take() override {
    std::optional<Result<plan::Plan>> taken = std::move(result_);
    result_.reset();
    return taken;
  }
  void cancel() override { result_.reset(); }

 private:
  std::optional<Result<plan::Plan>> result_;
};

}  // namespace

std::unique_ptr<Planner> make_child_planner() {
  return std::make_unique<ChildPlanner>();
}

std::unique_ptr<Planner> make_inline_planner() {
  return std::make_unique<InlinePlanner>();
}

}  // namespace saturn::run
