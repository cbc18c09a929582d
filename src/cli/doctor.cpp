// saturn doctor: whether this machine can train, one line a check.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/base/version.h"
#include "saturn/devices/machine.h"
#include "saturn/worker/child_output.h"
#include "saturn/worker/gpu_probe.h"

namespace saturn::cli {
namespace {

enum class State { good, note, failed };

struct Check {
  std::string name;
  State state = State::good;
  std::string text;
  std::string fix;
};

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

std::string bytes_text(std::int64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

std::string text_at(const Json& json, const char* key) {
  return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
}

Check training_library() {
  const std::string name = "training library";
  const auto told = worker::run_child({.arguments = {"worker", "--about", "--json"}, .deadline_s = 60});
  if (!told.ok()) return {name, State::failed, told.faults().front().what, told.faults().front().fix};
  if (told->signal != 0) {
    return {name, State::failed, "loading it ended with signal " + std::to_string(told->signal),
            "tools/setup"};
  }
  const auto about = parse_json(told->stdout_text, "worker --about");
  if (!about.ok()) return {name, State::failed, about.faults().front().what, ""};
  if (about->contains("errors")) {
    const Json& fault = (*about)["errors"].front();
    const std::string where = text_at(fault, "where");
    return {name, State::failed, (where.empty() ? "" : where + ": ") + text_at(fault, "what"),
            text_at(fault, "fix")};
  }
  return {name, State::good, "LibTorch " + text_at(*about, "libtorch") + ", " + text_at(*about, "path"), ""};
}

Check gpus() {
  const auto report = worker::make_gpu_probe()();
  if (!report.ok()) return {"GPUs", State::note, report.faults().front().what, ""};
  if (!report->usable) return {"GPUs", State::note, "none used: " + report->reason, ""};
  std::string text;
  for (const devices::Gpu& gpu : report->gpus) text += (text.empty() ? "" : ", ") + gpu.name;
  return {"GPUs", State::good, text, ""};
}

Check cores(const devices::Host& host) {
  const int usable = host.num_usable_cores();
  std::string text = std::to_string(usable) + " for this process";
  if (usable < static_cast<int>(host.cores.size())) {
    text += " (a quota of " + format_number(host.cpu_quota, 3) + " of " + std::to_string(host.cores.size()) +
            "; slots are not pinned)";
  }
  return {"cores", usable > 1 ? State::good : State::note, text, ""};
}

Check memory(const devices::Host& host) {
  const std::int64_t available = devices::available_memory_bytes();
  const std::string text =
      bytes_text(host.memory_bytes) + " for this process, " + bytes_text(available) + " available now";
  const bool enough = available >= kGiB && host.memory_bytes >= kGiB;
  return {"memory", enough ? State::good : State::failed, text,
          enough ? "" : "end other programs, or raise the limit"};
}

Check disk() {
  const auto bytes = free_bytes(".");
  if (!bytes.ok()) return {"disk", State::failed, bytes.faults().front().what, ""};
  const auto available = static_cast<std::int64_t>(*bytes);
  const bool enough = available >= kGiB;
  return {"disk", enough ? State::good : State::failed, bytes_text(available) + " free in this directory",
          enough ? "" : "free space, or work in another directory"};
}

Check shared_memory() {
  const auto bytes = free_bytes("/dev/shm");
  if (!bytes.ok() || ::access("/dev/shm", W_OK) != 0) {
    return {"shared memory", State::note, "/dev/shm cannot be written; NCCL between GPUs needs it", ""};
  }
  return {"shared memory", State::good, bytes_text(static_cast<std::int64_t>(*bytes)) + " free in /dev/shm",
          ""};
}

// What ranks do when they meet: listen on a port of the loopback interface, and connect to it.
Check loopback() {
  const FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const FileDescriptor caller(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  const bool works = ::bind(listener.get(), generic, length) == 0 && ::listen(listener.get(), 1) == 0 &&
                     ::getsockname(listener.get(), generic, &length) == 0 &&
                     ::connect(caller.get(), generic, length) == 0;
  if (works) return {"loopback", State::good, "127.0.0.1 takes connections", ""};
  return {"loopback", State::failed, "127.0.0.1 cannot be used: " + std::string(std::strerror(errno)),
          "ip link set lo up"};
}

Check descriptors() {
  constexpr rlim_t kEnough = 1024;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const bool enough = limit.rlim_cur >= kEnough;
  return {"open files", enough ? State::good : State::note, "at most " + std::to_string(limit.rlim_cur),
          enough ? "" : "ulimit -n 1024"};
}

const char* state_name(State state) {
  return state == State::good ? "ok" : state == State::note ? "note" : "failed";
}

struct DoctorArgs {
  void declare(Options&) {}

  Result<int> run(const Context& context) const {
    const devices::Host host = devices::this_host();
    const std::vector<Check> checks = {{"saturn", State::good, version(), ""},
                                       training_library(),
                                       gpus(),
                                       cores(host),
                                       memory(host),
                                       disk(),
                                       shared_memory(),
                                       loopback(),
                                       descriptors()};
    bool failed = false;
    Json list = Json::array();
    std::string text;
    for (const Check& check : checks) {
      failed |= check.state == State::failed;
      list.push_back({{"name", check.name},
                      {"state", state_name(check.state)},
                      {"text", check.text},
                      {"fix", check.fix}});
      std::string line = state_name(check.state);
      line.resize(8, ' ');
      line += check.name;
      line.resize(26, ' ');
      text += line + check.text + "\n";
      if (!check.fix.empty()) text += std::string(8, ' ') + "fix: " + check.fix + "\n";
    }
    if (context.json) {
      print_json({{"ok", !failed}, {"checks", std::move(list)}});
    } else {
      print(text);
    }
    return failed ? 2 : 0;
  }
};

}  // namespace

CommandEntry doctor() {
  return {.name = "doctor",
          .summary = "Check whether this machine can train; exit code 2 where it cannot.",
          .example = "saturn doctor",
          .declare = &make_action<DoctorArgs>};
}

}  // namespace saturn::cli
