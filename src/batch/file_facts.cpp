// The memory of digests. Losing it costs time only: whatever is wrong with the cache counts as empty.

#include "batch/file_facts.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <map>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"

namespace saturn::batch {
namespace {

constexpr std::int64_t kLargeFile = std::int64_t{256} << 20;
constexpr std::size_t kMostEntries = 4096;

std::string cache_path() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/saturn-digests.json";
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::string(home) + "/.cache/saturn-digests.json" : "";
}

std::string key_of(const struct stat& status) {
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) + ":" +
         std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec);
}

Json read_cache() {
  const std::string path = cache_path();
  if (path.empty()) return Json::object();
  const auto text = read_whole(path, std::uint64_t{16} << 20);
  if (!text.ok()) return Json::object();
  auto document = parse_json(*text, path);
  return document.ok() && document->is_object() ? *std::move(document) : Json::object();
}

void remember_on_disk(const std::string& key, const std::string& digest) {
  const std::string path = cache_path();
  if (path.empty()) return;
  Json cache = read_cache();
  if (cache.size() >= kMostEntries) cache = Json::object();
  cache[key] = digest;
  if (!make_directories(directory_of(path)).ok()) return;
  const auto written = write_whole(path, to_text(cache));
  (void)written;  // only a cache
}

}  // namespace

Result<std::string> remembered_digest(const std::string& path) {
  static std::map<std::string, std::string> known;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return system_fault(path, "look at", errno);
  const std::string key = key_of(status);
  const bool settled = std::time(nullptr) - status.st_mtim.tv_sec > 2;
  const bool large = status.st_size >= kLargeFile;
  if (settled) {
    if (const auto it = known.find(key); it != known.end()) return it->second;
    if (large) {
      const Json cache = read_cache();
      const auto it = cache.find(key);
      if (it != cache.end() && it->is_string()) return known[key] = it->get<std::string>();
    }
  }
  SATURN_TRY(const std::string digest, digest_of_file(path));
  if (settled) {
    known[key] = digest;
    if (large) remember_on_disk(key, digest);
  }
  return digest;
}

}  // namespace saturn::batch
