// Lines are appended with one write each; what is kept at a restart is rewritten whole.

#include "metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace saturn::train {

Result<MetricsFile> MetricsFile::open(const std::string& path, std::int64_t from_step) {
  MetricsFile file;
  file.path_ = path;
  std::string kept;
  if (from_step > 0 && ::access(path.c_str(), F_OK) == 0) {
    SATURN_TRY(const std::string text, read_whole(path));
    std::size_t at = 0;
    for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string line = text.substr(at, end - at);
      const Result<Json> parsed = parse_json(line, path);
      // A line torn by a crash, or not ours, is dropped; training does not depend on this file.
      if (!parsed.ok() || !parsed.value().is_object() ||
          !parsed.value().value("step", Json()).is_number_integer())
        continue;
      if (parsed.value().at("step").get<std::int64_t>() > from_step) continue;
      if (const Json time = parsed.value().value("time_s", Json()); time.is_number())
        file.kept_time_s_ = time.get<double>();
      kept += line + '\n';
    }
  }
  SATURN_TRY_VOID(write_whole(path, kept));
  file.fd_.reset(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file.fd_.valid()) return system_fault(path, "open", errno);
  return file;
}

Result<void> MetricsFile::append(const Json& line) {
  const std::string text = to_line(line) + '\n';
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(fd_.get(), text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_fault(path_, "write", errno);
    done += static_cast<std::size_t>(written);
  }
  return {};
}

}  // namespace saturn::train
