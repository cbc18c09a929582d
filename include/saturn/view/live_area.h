// Lines at the bottom of a terminal that are redrawn in place.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "saturn/view/terminal.h"

namespace saturn::view {

/// Writes to a descriptor that is a terminal. Never waits for it: where it takes no bytes (a stopped
/// terminal), the frame is left out.
class LiveArea {
 public:
  /// `write` takes bytes and returns whether they were taken.
  using Write = std::function<bool(const std::string& bytes)>;

  explicit LiveArea(Write write) : write_(std::move(write)) {}

  /// Replaces what was drawn before. No line is wider than `terminal`; there are fewer lines than it has
  /// rows.
  void draw(const std::vector<std::string>& lines, const Terminal& terminal);

  /// Prints `text` (whole lines) above the area, which is drawn again under it.
  void print_above(const std::string& text, const Terminal& terminal);

  /// Leaves the last lines where they are, or removes them; the cursor is below.
  void keep() { shown_.clear(); }
  void clear(const Terminal& terminal);

 private:
  std::string back_to_top(const Terminal& terminal) const;

  Write write_;
  std::vector<std::string> shown_;
};

/// Writes all of `bytes` to `fd` where poll says that it takes them; false otherwise.
bool write_if_ready(int fd, const std::string& bytes);

}  // namespace saturn::view
