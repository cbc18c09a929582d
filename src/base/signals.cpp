// Counts the signals that ask for the end. The handler only adds and writes one byte.

#include "saturn/base/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "saturn/base/check.h"

namespace saturn {
namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

std::atomic<int> num_signals{0};
std::atomic<int> first_signal{0};
std::atomic<int> wake_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int signal_number) {
  const int saved = errno;
  int none = 0;
  first_signal.compare_exchange_strong(none, signal_number);
  num_signals.fetch_add(1);
  const char byte = 0;
  if (const int fd = wake_fd.load(); fd >= 0 && ::write(fd, &byte, 1) < 0) {
    // The pipe is full: its reader is awake already.
  }
  errno = saved;
}

void install(void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  for (const int signal_number : kSignals) ::sigaction(signal_number, &action, nullptr);
}

}  // namespace

StopSignals::StopSignals() {
  SATURN_CHECK(wake_fd.load() < 0, "one StopSignals lives at a time");
  int ends[2] = {-1, -1};
  const int made = ::pipe2(ends, O_CLOEXEC | O_NONBLOCK);
  SATURN_CHECK(made == 0, "a process that starts can open a pipe");
  read_end_.reset(ends[0]);
  write_end_.reset(ends[1]);
  num_signals = 0;
  first_signal = 0;
  wake_fd = ends[1];
  install(&on_signal, 0);
}

StopSignals::~StopSignals() {
  install(SIG_DFL, 0);
  wake_fd = -1;
}

void StopSignals::drain() {
  char bytes[64];
  while (::read(read_end_.get(), bytes, sizeof bytes) > 0) {
  }
}

int StopSignals::count() {
  return num_signals.load();
}

int StopSignals::first() {
  return first_signal.load();
}

}  // namespace saturn
