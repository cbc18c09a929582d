// Starting, talking to and ending the ranks of an attempt; what profile, run and simulate drive.

#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/worker/messages.h"

namespace saturn::worker {

/// All ranks of one attempt, rank i at index i. The launcher fills in each rank's rendezvous.
struct LaunchRequest {
  std::string attempt;  ///< unique among the attempts that live, such as "gpt2-lr-1e-3#2"
  std::vector<Assign> ranks;
};

/// A process by what still names it after the controller has died: its id alone may be given to another.
struct RankProcess {
  int rank = 0;
  int pid = 0;
  std::uint64_t start_ticks = 0;  ///< field 22 of /proc/PID/stat
  bool was_standby = false;
};

/// A rank's process is gone, and with it whatever it had started.
struct Ended {
  int exit_code = -1;               ///< -1 where a signal ended it
  int signal = 0;                   ///< 0 where it exited
  bool asked = false;               ///< `stop` was called before
  bool out_of_host_memory = false;  ///< killed by the kernel for want of memory
  std::string reason;               ///< one line, such as "signal 9 (Killed)" or "exit code 2"
};

/// One rank's messages come in the order sent, then `Ended` as its last event.
struct WorkerEvent {
  std::string attempt;
  int rank = 0;
  double time_s = 0;  ///< of the launcher's clock, when it was read
  std::variant<FromRank, Ended> what;
};

class Launcher {
 public:
  virtual ~Launcher() = default;

  /// Starts all ranks, from standby workers where some are there, or none of them.
  ///
  /// Errors: Kind::machine where the system refuses a process, a socket or the log file.
  virtual Result<std::vector<RankProcess>> launch(LaunchRequest request) = 0;

  /// To one rank, or to all ranks of an attempt. Nothing happens where the rank has ended.
  virtual void send(const std::string& attempt, int rank, const ToRank& message) = 0;
  virtual void send_all(const std::string& attempt, const ToRank& message) = 0;

  /// Waits until something happens, at most `timeout_s` (negative: without end), and returns what did.
  /// Empty after the timeout, a signal, or when a wake descriptor is readable.
  virtual std::vector<WorkerEvent> poll(double timeout_s) = 0;

  /// `poll` returns as soon as one of `fds` is readable (a signalfd, a child's pipe). They stay the caller's.
  virtual void set_wake_fds(std::vector<int> fds) = 0;

  /// Ends an attempt: TERM to every rank's process group now, KILL after `grace_s` (0: at once). Its `Ended`
  /// events come through `poll`, which must be called for the grace to run out.
  virtual void stop(const std::string& attempt, double grace_s) = 0;

  /// Keeps `count` workers ready (fewer where memory is short); 0 ends those there are.
  virtual void set_num_standby(int count) = 0;

  /// Ranks that have been launched and not ended.
  virtual int num_living() const = 0;
};

}  // namespace saturn::worker
