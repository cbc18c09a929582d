// A second process beside the search: it proves bounds and searches on its own, and can be killed at any
// moment, whatever CBC is doing.

#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plan/reduced.h"
#include "saturn/base/files.h"

namespace saturn::plan {

/// What one side tells the other: a proved bound, a solution, or both.
struct Report {
  double bound_s = 0.0;
  std::string by;
  Solution solution;  ///< empty: none
  std::int64_t iterations = 0;
};

/// One end of the stream between the two processes.
class Link {
 public:
  explicit Link(FileDescriptor socket) : fd_(std::move(socket)) {}

  /// False where the other side is gone. The parent's end never waits: it drops the report where an earlier
  /// one is still on its way.
  bool send(const Report& report);

  /// Reports that have arrived whole. Waits up to `wait_s` for the first; 0 does not wait.
  std::vector<Report> receive(double wait_s = 0.0);

  bool closed() const { return closed_; }  ///< the other side is gone, and everything it sent was received

 private:
  bool flush();

  FileDescriptor fd_;
  std::string unsent_;
  std::string buffer_;
  bool closed_ = false;
};

/// The parent's handle. Destruction kills the child and waits for it.
class Helper {
 public:
  /// Forks; the child runs `work` on its end of the link and exits. Null where the system refuses, in which
  /// case the caller does the work itself.
  static std::unique_ptr<Helper> start(const std::function<void(Link&)>& work);
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  Link& link() { return link_; }

 private:
  Helper(pid_t child, FileDescriptor socket) : child_(child), link_(std::move(socket)) {}

  pid_t child_;
  Link link_;
};

}  // namespace saturn::plan
