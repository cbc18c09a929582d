// metrics.jsonl: one line a logged step and one a validation, continued after a restart without repeats.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::train {

class MetricsFile {
 public:
  /// Keeps the lines of `path` up to `from_step` and drops what an attempt that was lost wrote beyond.
  static Result<MetricsFile> open(const std::string& path, std::int64_t from_step);

  Result<void> append(const Json& line);

  /// `time_s` of the last line that was kept: the time of earlier attempts.
  double kept_time_s() const { return kept_time_s_; }

 private:
  std::string path_;
  FileDescriptor fd_;
  double kept_time_s_ = 0.0;
};

}  // namespace saturn::train
