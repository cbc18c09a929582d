// The signals that ask for the end, as something a poll loop can look at.

#pragma once

#include "saturn/base/files.h"

namespace saturn {

/// While it lives, INT, TERM, HUP and QUIT are counted instead of ending the process, and `fd` becomes
/// readable. One at a time. Children get the default actions back when they exec.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// Readable from the first signal on, and again after each `drain`.
  int fd() const { return read_end_.get(); }
  void drain();

  /// Signals that have come so far, and the number of the first of them (0 where none came).
  static int count();
  static int first();

 private:
  FileDescriptor read_end_;
  FileDescriptor write_end_;
};

}  // namespace saturn
