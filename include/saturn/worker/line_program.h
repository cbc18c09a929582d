// A program of the user's that is spoken to line by line, beside what else goes on.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::worker {

/// Lines there and back. Nothing here waits.
class LineProgram {
 public:
  virtual ~LineProgram() = default;

  /// Sends a line (its newline is added); what the program does not take yet is kept and sent by later calls.
  virtual void send(const std::string& line) = 0;
  /// The next line that it has written, once; nothing while there is none. Its end is a fault that says how
  /// it ended and what it last wrote to stderr; a line of more than a megabyte is one too.
  virtual std::optional<Result<std::string>> take() = 0;
  /// Readable when `take` may have something; -1 where there is nothing to wait on.
  virtual int fd() const = 0;
};

/// Starts `command` (its first word is looked up in PATH) in `directory`, its stderr appended to `log_path`.
/// Its process group is killed when the object goes, and with the calling process.
///
/// Errors: Kind::machine where no process can be started. A command that does not exist ends, with exit code
/// 127.
Result<std::unique_ptr<LineProgram>> start_line_program(const std::vector<std::string>& command,
                                                        const std::string& directory,
                                                        const std::string& log_path);

}  // namespace saturn::worker
