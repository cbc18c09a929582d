// metrics.jsonl of a job: one line a step, and one for each validation. The same numbers lie beside it for
// others to read: as metrics.csv, and as an event file for TensorBoard.

#pragma once

#include <cstdint>
#include <string>

#include "event_file.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::train {

class MetricsFile {
 public:
  /// Keeps the lines of `path` up to `from_step` and drops what an attempt that was lost wrote beyond; the
  /// files beside it are made anew from them. `unix_s`: now.
  static Result<MetricsFile> open(const std::string& path, std::int64_t from_step, double unix_s);

  Result<void> append(const Json& line);

  /// `time_s` of the last line that was kept: the time of earlier attempts.
  double kept_time_s() const { return kept_time_s_; }

 private:
  /// Of a line, when the job's time was 0 at `begin_unix_s_`.
  double unix_s_of(const Json& line) const;

  std::string path_, csv_path_;
  FileDescriptor fd_, csv_fd_;
  EventFile events_;
  double kept_time_s_ = 0.0;
  double begin_unix_s_ = 0.0;
};

}  // namespace saturn::train
