// fork, exec, /proc and the few system calls without a wrapper in the C library.

#include "worker/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace saturn::worker {
namespace {

constexpr int kFirstFreeFd = 10;  // descriptors to be placed lie above every place

void close_from(int first) {
  if (::syscall(SYS_close_range, first, ~0U, 0) == 0) return;
  rlimit limit{};
  const int end = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<int>(limit.rlim_cur) : 1024;
  for (int fd = first; fd < end; ++fd) ::close(fd);
}

// What a child needs after fork, where nothing may be allocated any more.
struct Prepared {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  std::string failure;
  cpu_set_t cores;
  bool pins = false;
  FileDescriptor in;
  FileDescriptor out;
  FileDescriptor error;
  FileDescriptor control;
  pid_t parent = 0;
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  return all;
}

// The caller's environment with `ours` in place of variables of the same name.
std::vector<char*> environment_with(const std::vector<std::string>& ours) {
  std::vector<char*> all = pointers(ours);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const char* equals = std::strchr(*variable, '=');
    const std::size_t length = equals == nullptr ? 0 : static_cast<std::size_t>(equals - *variable) + 1;
    bool replaced = false;
    for (const std::string& our : ours)
      replaced |= length > 0 && our.compare(0, length, *variable, length) == 0;
    if (!replaced) all.push_back(*variable);
  }
  all.push_back(nullptr);
  return all;
}

[[noreturn]] void become(const Spawn& request, const Prepared& prepared) {
  ::setpgid(0, 0);
  // The signal follows the thread that forked; where that died before the line above took hold, nothing would
  // ever come.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != prepared.parent) ::_exit(1);

  for (int signal = 1; signal < 32; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  ::dup2(prepared.in.get(), STDIN_FILENO);
  ::dup2(prepared.out.get(), STDOUT_FILENO);
  ::dup2(prepared.error.get(), STDERR_FILENO);
  if (prepared.control.valid()) ::dup2(prepared.control.get(), kControlFd);
  close_from(prepared.control.valid() ? kControlFd + 1 : kControlFd);
  // Short of memory, the kernel takes a rank rather than the controller, which would take all with it.
  if (const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); score >= 0) {
    [[maybe_unused]] const ssize_t asked = ::write(score, "300", 3);
    ::close(score);
  }
  if (prepared.pins) ::sched_setaffinity(0, sizeof prepared.cores, &prepared.cores);

  ::execve(request.executable.c_str(), prepared.arguments.data(), prepared.environment.data());
  const ssize_t written = ::write(STDERR_FILENO, prepared.failure.data(), prepared.failure.size());
  ::_exit(written < 0 ? 126 : 127);
}

Result<void> place_high(int fd, FileDescriptor& into, const std::string& name) {
  if (fd < 0) return {};
  into.reset(::fcntl(fd, F_DUPFD_CLOEXEC, kFirstFreeFd));
  if (!into.valid()) return system_fault(name, "duplicate a descriptor", errno);
  return {};
}

// All of a small file of /proc, or nothing.
std::string read_proc(const std::string& path) {
  auto content = read_whole(path, std::uint64_t{4} << 20);
  return content.ok() ? *std::move(content) : std::string();
}

// The number behind `name` in lines of "name value"; 0 where there is none.
std::uint64_t value_of(const std::string& content, const std::string& name) {
  const std::size_t at = ("\n" + content).find("\n" + name);
  if (at == std::string::npos) return 0;
  const std::size_t digits = content.find_first_of("0123456789", at + name.size());
  if (digits == std::string::npos) return 0;
  std::uint64_t value = 0;
  std::from_chars(content.data() + digits, content.data() + content.size(), value);
  return value;
}

bool carries(const std::string& environment, const std::string& mark) {
  return environment.compare(0, mark.size(), mark) == 0 ||
         environment.find(std::string(1, '\0') + mark) != std::string::npos;
}

// The dead and threads of the kernel have no memory.
bool is_ours_with_memory(const std::string& directory) {
  struct stat status {};
  return ::stat(directory.c_str(), &status) == 0 && status.st_uid == ::geteuid() &&
         std::atol(read_proc(directory + "/statm").c_str()) > 0;
}

// Field `number` of /proc/PID/stat, from the third on; 0 where there is no such process.
std::uint64_t stat_field(pid_t pid, int number) {
  const std::string stat = read_proc("/proc/" + std::to_string(pid) + "/stat");
  // The name in parentheses may hold anything; fields are counted from the last one, which ends field 2.
  std::size_t at = stat.rfind(')');
  for (int field = 2; field < number && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at == std::string::npos) return 0;
  std::uint64_t value = 0;
  std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), value);
  return value;
}

// The guardian's life. It holds nothing of the controller's: no lock, no socket, no directory, no terminal.
[[noreturn]] void guard(int pipe, const std::string& mark) {
  ::setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  ::prctl(PR_SET_NAME, "saturn-guardian");
  ::dup2(pipe, 0);
  close_from(1);
  if (::chdir("/") != 0) ::_exit(1);
  char sent_home = 0;
  ssize_t n = 0;
  while ((n = ::read(0, &sent_home, 1)) < 0 && errno == EINTR) {
  }
  // What dies may be starting something; a pass that finds nothing ends it.
  constexpr int kMaxPasses = 200;
  for (int pass = 0; n == 0 && pass < kMaxPasses; ++pass) {
    std::vector<pid_t> unsettled;
    if (end_marked(mark, &unsettled).empty() && unsettled.empty()) break;
    ::usleep(5000);
  }
  ::_exit(0);
}

}  // namespace

Result<pid_t> spawn(const Spawn& request) {
  Prepared prepared;
  prepared.arguments = pointers(request.arguments);
  prepared.arguments.push_back(nullptr);
  prepared.environment = environment_with(request.environment);
  prepared.failure = "saturn: cannot execute " + request.executable + "\n";
  prepared.parent = ::getpid();
  CPU_ZERO(&prepared.cores);
  for (const int core : request.cores) {
    if (core >= 0 && core < CPU_SETSIZE) CPU_SET(static_cast<unsigned>(core), &prepared.cores);
  }
  prepared.pins = !request.cores.empty();
  const FileDescriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return system_fault("/dev/null", "open", errno);
  const auto or_null = [&](int fd) { return fd < 0 ? null.get() : fd; };
  SATURN_TRY_VOID(place_high(or_null(request.stdin_fd), prepared.in, request.executable));
  SATURN_TRY_VOID(place_high(or_null(request.stdout_fd), prepared.out, request.executable));
  SATURN_TRY_VOID(place_high(or_null(request.stderr_fd), prepared.error, request.executable));
  SATURN_TRY_VOID(place_high(request.control_fd, prepared.control, request.executable));

  // A signal that is meant for the child, and comes before it has let go of our handlers, waits until then.
  sigset_t all, before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  const int error_number = errno;
  if (pid == 0) become(request, prepared);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return system_fault("", "start a process", error_number);
  ::setpgid(pid, pid);  // also here, so that the group exists whoever comes first
  return pid;
}

FileDescriptor open_pidfd(pid_t pid) {
  return FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

std::uint64_t start_ticks_of(pid_t pid) {
  return stat_field(pid, 22);
}

Result<FileDescriptor> open_log(const std::string& path) {
  FileDescriptor log(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!log.valid()) return system_fault(path, "open the log", errno);
  return log;
}

std::vector<pid_t> processes_marked(const std::string& mark, std::vector<pid_t>* unsettled) {
  std::vector<pid_t> found;
  DIR* processes = ::opendir("/proc");
  if (processes == nullptr) return found;
  while (const dirent* entry = ::readdir(processes)) {
    const pid_t pid = static_cast<pid_t>(std::atoi(entry->d_name));
    if (pid <= 1 || pid == ::getpid()) continue;
    const std::string directory = "/proc/" + std::to_string(pid);
    const std::string environment = read_proc(directory + "/environ");
    if (carries(environment, mark)) {
      found.push_back(pid);
    } else if (unsettled != nullptr && environment.empty() && is_ours_with_memory(directory)) {
      unsettled->push_back(pid);
    }
  }
  ::closedir(processes);
  return found;
}

std::vector<pid_t> end_marked(const std::string& mark, std::vector<pid_t>* unsettled) {
  std::vector<pid_t> ended = processes_marked(mark, unsettled);
  for (const pid_t pid : ended) ::kill(pid, SIGKILL);
  return ended;
}

bool is_descendant(pid_t pid) {
  constexpr int kMaxGenerations = 1000;
  for (int i = 0; i < kMaxGenerations && pid > 1; ++i) {
    pid = static_cast<pid_t>(stat_field(pid, 4));
    if (pid == ::getpid()) return true;
  }
  return false;
}

std::uint64_t num_oom_kills() {
  return value_of(read_proc("/proc/vmstat"), "oom_kill ");
}

std::string random_key(std::size_t num_bytes) {
  std::string bytes(num_bytes, '\0');
  for (std::size_t have = 0; have < num_bytes;) {
    const ssize_t n = ::getrandom(bytes.data() + have, num_bytes - have, 0);
    if (n < 0 && errno == EINTR) continue;
    SATURN_CHECK(n > 0, "getrandom works on every kernel that Saturn runs on");
    have += static_cast<std::size_t>(n);
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

Result<std::unique_ptr<Guardian>> Guardian::start(const std::string& mark) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_fault("", "make a pipe", errno);
  FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_fault("", "start a process", errno);
  if (pid == 0) {
    write_end.reset();
    guard(read_end.get(), mark);
  }
  return std::unique_ptr<Guardian>(new Guardian(pid, std::move(write_end)));
}

Guardian::Guardian(pid_t pid, FileDescriptor pipe) : owner_(::getpid()), pid_(pid), pipe_(std::move(pipe)) {}

Guardian::~Guardian() {
  if (::getpid() != owner_) return;
  const char home = 'h';
  if (::write(pipe_.get(), &home, 1) != 1) ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace saturn::worker
