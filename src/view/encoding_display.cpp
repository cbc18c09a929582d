// Progress of encoding one file after the other.

#include "saturn/view/encoding_display.h"

#include <algorithm>

#include "saturn/base/units.h"

namespace saturn::view {

void EncodingDisplay::progress(const std::string& path, std::uint64_t num_bytes_done,
                               std::uint64_t num_bytes) {
  const double now_s = display_.clock().now_s();
  if (path != path_) {
    path_ = path;
    began_s_ = now_s;
    told_ = false;
  }
  const double elapsed_s = now_s - began_s_;
  if (elapsed_s < kQuietS) return;
  if (!told_ && !display_.interactive()) {
    display_.say("making tokens of " + path + ", " + format_bytes(static_cast<double>(num_bytes)));
    told_ = true;
  }
  display_.draw([&](const Terminal& terminal) -> std::vector<std::string> {
    const double share =
        static_cast<double>(num_bytes_done) / static_cast<double>(std::max<std::uint64_t>(1, num_bytes));
    const double rate = static_cast<double>(num_bytes_done) / elapsed_s;
    return {"tokens " + progress_bar(share, 20, terminal.unicode) + " " + format_bytes(rate) + "/s, " +
            format_duration(elapsed_s / std::max(share, 1e-6) * (1.0 - share)) + " left, " + path};
  });
}

}  // namespace saturn::view
