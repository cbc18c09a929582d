// What a person sees on stderr while text is made into tokens.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/view/displays.h"

namespace saturn::view {

/// A line with bar, rate and time left on a terminal; elsewhere a line per file that takes longer than a
/// second.
class EncodingDisplay {
 public:
  EncodingDisplay(Screen screen, const Clock& clock) : display_(std::move(screen), clock) {}

  void progress(const std::string& path, std::uint64_t num_bytes_done, std::uint64_t num_bytes);
  void finish() { display_.finish(); }

 private:
  static constexpr double kQuietS = 1.0;

  Display display_;
  std::string path_;
  double began_s_ = 0.0;
  bool told_ = false;
};

}  // namespace saturn::view
