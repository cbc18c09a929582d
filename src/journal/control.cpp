// Writing and reading requests. What lies in the directory may come from anybody who can write to it.

#include "saturn/journal/control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "saturn/base/files.h"
#include "saturn/base/json.h"

namespace saturn::journal {
namespace {

constexpr const char* kRequestFormat = "saturn.request/1";
constexpr std::string_view kEnding = ".json";
constexpr off_t kMaxBytes = 16 << 10;
constexpr std::size_t kMaxNameShown = 60;
constexpr std::array kVerbs = {"pause", "resume", "cancel", "stop", "add", "drain", "undrain"};

// The whole of a small regular file; a link, a pipe or a device is none.
Result<std::string> read_small(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) return system_fault(path, errno == ELOOP ? "follow a link" : "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_fault(path, "look at", errno);
  if (!S_ISREG(status.st_mode)) return Diagnostic{.where = path, .what = "it is not a regular file"};
  if (status.st_size > kMaxBytes) return Diagnostic{.where = path, .what = "it is too long"};
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t n = ::read(file.get(), text.data(), text.size());
  if (n < 0) return system_fault(path, "read", errno);
  text.resize(static_cast<std::size_t>(n));
  return text;
}

Result<Request> request_from_text(const std::string& text, const std::string& path) {
  SATURN_TRY(const Json document, parse_json(text, path, {.bytes = kMaxBytes, .depth = 4}));
  if (!document.is_object()) return Diagnostic{.where = path, .what = "it holds no object"};
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  const std::string format = reader.string("format");
  const std::string verb = reader.string("verb");
  Request request{.target = reader.string("target")};
  reader.finish();
  if (!faults.empty()) return faults;
  if (format != kRequestFormat) return Diagnostic{.where = path, .what = "its format is another"};
  const auto at = std::find(kVerbs.begin(), kVerbs.end(), verb);
  if (at == kVerbs.end()) return Diagnostic{.where = path, .what = "its verb is not known"};
  request.verb = static_cast<Request::Verb>(at - kVerbs.begin());
  return request;
}

// A name as a person may safely be shown it.
std::string shown(const std::string& name) {
  std::string text = name.substr(0, kMaxNameShown);
  for (char& c : text) {
    const bool plain = c > ' ' && c < 127 && c != '"';
    if (!plain) c = '?';
  }
  return text + (name.size() > kMaxNameShown ? "..." : "");
}

}  // namespace

const char* to_string(Request::Verb verb) {
  return kVerbs[static_cast<std::size_t>(verb)];
}

Result<std::string> post(const RunPaths& paths, const Request& request) {
  SATURN_TRY_VOID(make_directories(paths.control()));
  std::array<char, 64> id{};
  const auto now_us = static_cast<long long>(SystemClock().unix_s() * 1e6);
  std::snprintf(id.data(), id.size(), "%020lld-%d", now_us, ::getpid());
  const Json document = {
      {"format", kRequestFormat}, {"verb", to_string(request.verb)}, {"target", request.target}};
  // Written beside the directory: its reader sees whole requests only.
  const std::string written = paths.root() + "/." + id.data() + ".request";
  const std::string posted = paths.control() + "/" + id.data() + std::string(kEnding);
  SATURN_TRY_VOID(write_whole(written, to_text(document)));
  if (::rename(written.c_str(), posted.c_str()) != 0) {
    const Diagnostic fault = system_fault(posted, "rename into place", errno);
    ::unlink(written.c_str());
    return fault;
  }
  return std::string(id.data());
}

// There is no watch where the system has none left, or the directory is not there yet.
void ControlBox::watch() {
  if (watch_.valid()) return;
  watch_ = FileDescriptor(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  const auto what = IN_MOVED_TO | IN_CREATE | IN_MOVE_SELF | IN_ONLYDIR;
  if (watch_.valid() && ::inotify_add_watch(watch_.get(), directory_.c_str(), what) < 0) watch_.reset();
}

// What it tells is that a look is worth its time; the look itself finds what there is.
void ControlBox::drain() {
  alignas(inotify_event) std::array<char, 4096> buffer{};
  bool is_ours = true;
  for (ssize_t n = 0; (n = ::read(watch_.get(), buffer.data(), buffer.size())) > 0;) {
    for (ssize_t at = 0; at < n;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      is_ours &= (event.mask & (IN_IGNORED | IN_MOVE_SELF)) == 0;
      at += static_cast<ssize_t>(sizeof event + event.len);
    }
  }
  if (!is_ours) watch_.reset();  // the directory was removed or moved away
}

bool ControlBox::has_news() const {
  pollfd watched{watch_.get(), POLLIN, 0};
  return watch_.valid() && ::poll(&watched, 1, 0) > 0;
}

std::vector<Request> ControlBox::look() {
  drain();
  watch();
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, ignored))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  std::vector<Request> requests;
  for (const std::string& name : names) {
    if (refused_.contains(name)) continue;
    if (!name.ends_with(kEnding)) {
      refuse(name, "it is not a request");
      continue;
    }
    const std::string path = directory_ + "/" + name;
    const Result<std::string> text = read_small(path);
    if (!text.ok()) {
      refuse(name, text.faults().front().what);
      continue;
    }
    Result<Request> request = request_from_text(*text, path);
    if (!request.ok()) {
      refuse(name, "it is no request that this version of Saturn knows");
      continue;
    }
    request->id = name.substr(0, name.size() - kEnding.size());
    requests.push_back(*std::move(request));
  }
  return requests;
}

void ControlBox::remove(const Request& request) {
  const std::string name = request.id + std::string(kEnding);
  if (::unlink((directory_ + "/" + name).c_str()) != 0 && errno != ENOENT) refused_.insert(name);
}

void ControlBox::refuse(const std::string& name, const std::string& why) {
  warnings_.push_back("control/" + shown(name) + " was removed unread: " + why);
  const std::string path = directory_ + "/" + name;
  if (::unlink(path.c_str()) != 0 && ::rmdir(path.c_str()) != 0) {
    refused_.insert(name);
    warnings_.back() = "control/" + shown(name) + " is ignored: " + why;
  }
}

}  // namespace saturn::journal
