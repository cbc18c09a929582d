// Renders diagnostics, and turns them into exit codes.

#include "saturn/base/diagnostic.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "saturn/base/check.h"

namespace saturn {
namespace {

// Files are outside bytes: a message never carries a control character to the terminal.
std::string escaped(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", byte);
      out += hex;
    } else {
      out += c;
    }
  }
  return out;
}

int exit_code(Kind kind) {
  switch (kind) {
    case Kind::input:
    case Kind::machine:
      return 2;
    case Kind::infeasible:
      return 3;
    case Kind::stale:
      return 4;
    case Kind::job_failed:
    case Kind::disk_full:
      return 1;
    case Kind::interrupted:
      return 130;
  }
  return 2;
}

}  // namespace

std::string to_text(const Diagnostic& diagnostic) {
  std::string out;
  if (!diagnostic.where.empty()) out += escaped(diagnostic.where) + ": ";
  out += diagnostic.severity == Severity::warning ? "warning: " : "error: ";
  out += escaped(diagnostic.what) + "\n";
  if (!diagnostic.expected.empty()) out += "  expected: " + escaped(diagnostic.expected) + "\n";
  if (!diagnostic.fix.empty()) out += "  fix: " + escaped(diagnostic.fix) + "\n";
  return out;
}

std::string to_text(const Diagnostics& diagnostics) {
  std::string out;
  for (const Diagnostic& diagnostic : diagnostics) out += to_text(diagnostic);
  return out;
}

int exit_code(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    if (diagnostic.severity == Severity::error) return exit_code(diagnostic.kind);
  }
  return 0;
}

std::string position(const std::string& path, int line, int column) {
  return path + ":" + std::to_string(line) + ":" + std::to_string(column);
}

std::string in_quotes(const std::string& text) {
  constexpr std::size_t kLongest = 80;
  const std::string whole = escaped(text);
  if (whole.size() <= kLongest) return "\"" + whole + "\"";
  return "\"" + whole.substr(0, kLongest / 2) + "..." + whole.substr(whole.size() - kLongest / 2) + "\"";
}

void check_failed(const char* file, int line, const char* condition, const char* believed) {
  std::fprintf(stderr, "%s:%d: Saturn is wrong here: believed that %s (%s)\n", file, line, believed,
               condition);
  std::abort();
}

}  // namespace saturn
