// Scalars in the event files that TensorBoard reads.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::train {

/// A record of TFRecord: length and content, each with its masked CRC-32C.
std::string tf_record(std::string_view content);

/// The event of one line of metrics: every number in it but `step` and `time_s` as a scalar of that step.
std::string scalar_event(const Json& line, double unix_s);

/// The one event file of a job's directory.
class EventFile {
 public:
  /// Replaces the event files of `directory` by a new one, whose name begins with "events.out.tfevents.".
  static Result<EventFile> create(const std::string& directory, double unix_s);

  Result<void> append(const Json& line, double unix_s);

 private:
  std::string path_;
  FileDescriptor fd_;
};

}  // namespace saturn::train
