// Event messages by hand: the few fields of a protocol buffer that scalars need.
//
// Source: tensorboard/compat/proto/event.proto and summary.proto; TFRecord as
// tensorflow/core/lib/io/record_writer.

#include "event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "saturn/base/digest.h"

namespace saturn::train {
namespace {

constexpr const char* kNameBegins = "events.out.tfevents.";

// Tags: field number and wire type.
constexpr char kWallTime = 1 << 3 | 1;     // Event, 64 bits
constexpr char kStep = 2 << 3 | 0;         // Event, varint
constexpr char kFileVersion = 3 << 3 | 2;  // Event, bytes
constexpr char kSummary = 5 << 3 | 2;      // Event, message
constexpr char kValue = 1 << 3 | 2;        // Summary, message
constexpr char kTag = 1 << 3 | 2;          // Summary.Value, bytes
constexpr char kSimpleValue = 2 << 3 | 5;  // Summary.Value, 32 bits

template <class Number>
std::string little_endian(Number number) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

std::string varint(std::uint64_t number) {
  std::string bytes;
  for (; number >= 0x80; number >>= 7) bytes += static_cast<char>(number | 0x80);
  return bytes + static_cast<char>(number);
}

std::string field(char tag, const std::string& content) {
  return tag + varint(content.size()) + content;
}

std::uint32_t masked_crc(std::string_view content) {
  const std::uint32_t crc = crc32c(content);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_fault(path, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "localhost";
}

}  // namespace

std::string tf_record(std::string_view content) {
  const std::string length = little_endian(static_cast<std::uint64_t>(content.size()));
  return length + little_endian(masked_crc(length)) + std::string(content) +
         little_endian(masked_crc(content));
}

std::string scalar_event(const Json& line, double unix_s) {
  std::string values;
  for (const auto& [name, value] : line.items()) {
    if (name == "step" || name == "time_s" || !value.is_number()) continue;
    values += field(kValue, field(kTag, name) + kSimpleValue + little_endian(value.get<float>()));
  }
  return kWallTime + little_endian(unix_s) + kStep + varint(line.at("step").get<std::uint64_t>()) +
         field(kSummary, values);
}

Result<EventFile> EventFile::create(const std::string& directory, double unix_s) {
  std::vector<std::filesystem::path> old;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error))
    if (it->path().filename().string().starts_with(kNameBegins)) old.push_back(it->path());
  if (error) return system_fault(directory, "list", error.value());
  for (const std::filesystem::path& path : old) std::filesystem::remove(path, error);

  EventFile file;
  file.path_ = join_path(directory, kNameBegins + std::to_string(static_cast<std::int64_t>(unix_s)) + "." +
                                        host_name() + "." + std::to_string(::getpid()) + ".0");
  file.fd_.reset(::open(file.path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666));
  if (!file.fd_.valid()) return system_fault(file.path_, "create", errno);
  const std::string version = kWallTime + little_endian(unix_s) + field(kFileVersion, "brain.Event:2");
  SATURN_TRY_VOID(write_all(file.fd_.get(), tf_record(version), file.path_));
  return file;
}

Result<void> EventFile::append(const Json& line, double unix_s) {
  return write_all(fd_.get(), tf_record(scalar_event(line, unix_s)), path_);
}

}  // namespace saturn::train
