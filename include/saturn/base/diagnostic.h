// What went wrong, in the three parts every message has: what was read, what was expected, how to fix it.

#pragma once

#include <string>
#include <vector>

namespace saturn {

/// Decides the exit code (see `exit_code`), never the wording.
enum class Kind {
  input,        ///< a file or an option cannot be used: exit 2
  machine,      ///< this machine, or its state, will not do: exit 2
  infeasible,   ///< no plan exists: exit 3
  stale,        ///< a named artefact was made from something else: exit 4
  job_failed,   ///< a job failed while the others went on: exit 1
  disk_full,    ///< the disk filled while running: exit 1
  interrupted,  ///< a signal asked for the end: exit 130
};

enum class Severity { warning, error };

/// One fault. `where` is "path:line:col", "path#/json/pointer", or empty where no file is to blame.
struct Diagnostic {
  Kind kind = Kind::input;
  std::string where;
  std::string what;
  std::string expected;
  std::string fix;
  Severity severity = Severity::error;
};

/// Never empty where it stands for a failure; in the order a reader should see them.
using Diagnostics = std::vector<Diagnostic>;

/// "where: error: what\n  expected: ...\n  fix: ...\n"; control characters are escaped.
std::string to_text(const Diagnostic& diagnostic);
std::string to_text(const Diagnostics& diagnostics);

/// Exit code of the most severe error (DESIGN: 1, 2, 3, 4 or 130); 0 where there are only warnings.
int exit_code(const Diagnostics& diagnostics);

/// "path:line:col".
std::string position(const std::string& path, int line, int column);

/// `text` in double quotes, control characters escaped, cut in the middle beyond 80 characters.
std::string in_quotes(const std::string& text);

}  // namespace saturn
