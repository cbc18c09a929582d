// dlopen of the training library, and what to say where that does not work.

#include "saturn/worker/train_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/nearest.h"
#include "saturn/base/version.h"

namespace saturn::worker {
namespace {

constexpr const char* kFileName = "libsaturn_train.so";
constexpr const char* kVariable = "SATURN_TRAIN_LIBRARY";

template <class Function>
void bind(void* library, const char* name, Function*& into) {
  into = reinterpret_cast<Function*>(::dlsym(library, name));
}

std::string version_of(const TrainLibrary& library) {
  if (library.about == nullptr) return "";
  const auto about = parse_json(library.about(), "saturn_train_about");
  const bool told =
      about.ok() && about->is_object() && about->contains("saturn") && (*about)["saturn"].is_string();
  return told ? (*about)["saturn"].get<std::string>() : std::string();
}

}  // namespace

std::vector<std::string> train_library_paths() {
  if (const char* given = std::getenv(kVariable); given != nullptr && *given != '\0') return {given};
  std::error_code error;
  const std::string executable = std::filesystem::read_symlink("/proc/self/exe", error).string();
  const std::string directory = directory_of(executable);
  return {join_path(directory, kFileName), join_path(directory, std::string("../lib/") + kFileName)};
}

Result<TrainLibrary> open_train_library() {
  const std::vector<std::string> paths = train_library_paths();
  for (const std::string& path : paths) {
    if (::access(path.c_str(), F_OK) != 0) continue;
    // Everything is resolved now, so that a missing symbol is told here and not in the middle of a job;
    // nothing of LibTorch becomes visible to the executable. And nothing of the executable's takes the place of
    // LibTorch's own: the planner's solver brings a reference BLAS, whose sgemm_ is ten times as slow.
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (handle == nullptr) {
      const char* why = ::dlerror();
      return Diagnostic{
          .kind = Kind::machine,
          .where = path,
          .what = std::string("the training library cannot be loaded: ") + (why == nullptr ? "?" : why),
          .expected = "a library whose LibTorch lies where it lay when Saturn was built",
          .fix = "tools/setup, then build again"};
    }
    TrainLibrary library{.path = path};
    bind(handle, "saturn_train_main", library.train_main);
    bind(handle, "saturn_eval_main", library.eval_main);
    bind(handle, "saturn_train_about", library.about);
    bind(handle, "saturn_catalogue", library.catalogue);
    const std::string built_as = version_of(library);
    if (library.train_main == nullptr || built_as != version()) {
      return Diagnostic{.kind = Kind::machine,
                        .where = path,
                        .what = "this is not the training library of saturn " + std::string(version()) +
                                (built_as.empty() ? "" : " but of saturn " + built_as),
                        .expected = "executable and library of one build",
                        .fix = "build both again, or unset " + std::string(kVariable)};
    }
    return library;
  }
  return Diagnostic{
      .kind = Kind::machine,
      .what = "the training library is not here: none of " + listed(paths),
      .expected = "a build with training (presets release, dev and cuda have it, core and asan do not)",
      .fix = "cmake --preset release && cmake --build --preset release"};
}

}  // namespace saturn::worker
