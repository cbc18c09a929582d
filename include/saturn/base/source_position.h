// Where in a text file something was read, so that a later fault can still point at it.

#pragma once

#include <string>

#include "saturn/base/diagnostic.h"

namespace saturn {

/// A place in a file; line 0 where nothing was written there (a default).
struct SourcePosition {
  std::string path;
  int line = 0;
  int column = 0;

  bool known() const { return line > 0; }
  /// "path:line:col", or the path alone where the place is not known.
  std::string text() const { return known() ? position(path, line, column) : path; }
};

}  // namespace saturn
