// Lines are appended with one write each; what is kept at a restart is rewritten whole.

#include "metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace saturn::train {
namespace {

/// In this order; a line without one leaves its field empty.
constexpr const char* kColumns[] = {"step",          "time_s",       "loss",          "learning_rate",
                                    "gradient_norm", "tokens_per_s", "samples_per_s", "validation_loss"};

std::string csv_header() {
  std::string row;
  for (const char* column : kColumns) {
    if (column != kColumns[0]) row += ",";
    row += column;
  }
  return row + "\n";
}

std::string csv_row(const Json& line) {
  std::string row;
  for (const char* column : kColumns) {
    if (column != kColumns[0]) row += ",";
    const auto value = line.find(column);
    if (value != line.end() && value->is_number()) row += value->dump();
  }
  return row + "\n";
}

/// The lines of a file that is there, up to `last_step`. A line torn by a crash, or not ours, is left out:
/// training does not depend on this file.
Result<std::vector<Json>> lines_of(const std::string& path, std::int64_t last_step) {
  std::vector<Json> lines;
  SATURN_TRY(const std::string text, read_whole(path));
  std::size_t at = 0;
  for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    Result<Json> parsed = parse_json(text.substr(at, end - at), path);
    if (!parsed.ok() || !parsed->is_object() || !parsed->value("step", Json()).is_number_integer()) continue;
    if (parsed->at("step").get<std::int64_t>() <= last_step) lines.push_back(*std::move(parsed));
  }
  return lines;
}

Result<FileDescriptor> open_to_append(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd.valid()) return system_fault(path, "open", errno);
  return fd;
}

Result<void> write_all(int fd, const std::string& text, const std::string& path) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_fault(path, "write", errno);
    done += static_cast<std::size_t>(written);
  }
  return {};
}

}  // namespace

Result<MetricsFile> MetricsFile::open(const std::string& path, std::int64_t from_step, double unix_s) {
  MetricsFile file;
  file.path_ = path;
  file.csv_path_ = path.substr(0, path.rfind('.')) + ".csv";
  std::vector<Json> kept;
  if (from_step > 0 && ::access(path.c_str(), F_OK) == 0) {
    SATURN_TRY(kept, lines_of(path, from_step));
  }
  std::string text, table = csv_header();
  for (const Json& line : kept) {
    text += to_line(line) + '\n';
    table += csv_row(line);
    if (const Json time = line.value("time_s", Json()); time.is_number())
      file.kept_time_s_ = time.get<double>();
  }
  file.begin_unix_s_ = unix_s - file.kept_time_s_;
  SATURN_TRY_VOID(write_whole(file.path_, text));
  SATURN_TRY_VOID(write_whole(file.csv_path_, table));
  SATURN_TRY(file.fd_, open_to_append(file.path_));
  SATURN_TRY(file.csv_fd_, open_to_append(file.csv_path_));
  SATURN_TRY(file.events_, EventFile::create(directory_of(path), unix_s));
  for (const Json& line : kept) SATURN_TRY_VOID(file.events_.append(line, file.unix_s_of(line)));
  return file;
}

double MetricsFile::unix_s_of(const Json& line) const {
  const Json time = line.value("time_s", Json());
  return begin_unix_s_ + (time.is_number() ? time.get<double>() : kept_time_s_);
}

Result<void> MetricsFile::append(const Json& line) {
  SATURN_TRY_VOID(write_all(fd_.get(), to_line(line) + '\n', path_));
  SATURN_TRY_VOID(write_all(csv_fd_.get(), csv_row(line), csv_path_));
  return events_.append(line, unix_s_of(line));
}

}  // namespace saturn::train
