// Cursor movement: up over what was drawn, then line by line.

#include "saturn/view/live_area.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "saturn/view/text.h"

namespace saturn::view {
namespace {

// Columns of a line without its colours.
int visible_columns(const std::string& line) {
  std::string plain;
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (line[at] == '\x1b') {
      at = line.find('m', at);
      if (at == std::string::npos) break;
      continue;
    }
    plain += line[at];
  }
  return columns_of(plain);
}

}  // namespace

// A terminal that became narrower has broken the old lines: each takes as many rows as it needs now.
std::string LiveArea::back_to_top(const Terminal& terminal) const {
  int rows = 0;
  for (const std::string& line : shown_)
    rows += std::max(1, (visible_columns(line) + terminal.width - 1) / terminal.width);
  rows = std::min(rows, terminal.height - 1);
  return rows == 0 ? "\r" : "\r\x1b[" + std::to_string(rows) + "A";
}

void LiveArea::draw(const std::vector<std::string>& lines, const Terminal& terminal) {
  std::string bytes = back_to_top(terminal);
  for (const std::string& line : lines) bytes += line + "\x1b[K\n";
  bytes += "\x1b[J";
  if (write_(bytes)) shown_ = lines;
}

void LiveArea::print_above(const std::string& text, const Terminal& terminal) {
  std::string bytes = back_to_top(terminal) + "\x1b[J" + text;
  for (const std::string& line : shown_) bytes += line + "\n";
  write_(bytes);
}

void LiveArea::clear(const Terminal& terminal) {
  if (!shown_.empty()) write_(back_to_top(terminal) + "\x1b[J");
  shown_.clear();
}

bool write_if_ready(int fd, const std::string& bytes) {
  constexpr std::size_t kPiece = 1024;  // less than a terminal's buffer: a write after POLLOUT does not wait
  std::size_t done = 0;
  while (done < bytes.size()) {
    pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return done > 0;
    const ssize_t count = ::write(fd, bytes.data() + done, std::min(kPiece, bytes.size() - done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return done > 0;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace saturn::view
