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
constexpr const char* kTorchVariable = "SATURN_LIBTORCH";
constexpr const char* kTorchVersion = "2.11";
constexpr const char* kTorchAdvice =
    "a torch 2.11 package: python3 -c 'import torch; print(torch.__path__[0])' prints where one is";

// Everything is resolved at once, so that a missing symbol is told here and not in the middle of a job;
// nothing of LibTorch becomes visible to the executable. And nothing of the executable's takes the place of
// LibTorch's own: the planner's solver brings a reference BLAS, whose sgemm_ is ten times as slow.
constexpr int kOpenMode = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;

std::string loader_says() {
  const char* why = ::dlerror();
  return why == nullptr ? "?" : why;
}

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

/// Opens the LibTorch that the user names, if any: libraries that are open already answer for the names that
/// the training library asks for.
Result<void> open_named_libtorch() {
  const char* directory = std::getenv(kTorchVariable);
  if (directory == nullptr || *directory == '\0') return {};
  const std::string version_file = join_path(directory, "version.py");
  const auto version = read_whole(version_file, 1 << 16);
  const auto fault = [&](const std::string& where, std::string what) {
    return Diagnostic{.kind = Kind::machine,
                      .where = where,
                      .what = std::move(what),
                      .expected = std::string(kTorchVariable) + " to be the directory of " + kTorchAdvice,
                      .fix = "set it, or unset it"};
  };
  if (!version.ok()) return fault(directory, "this is no torch package: " + version.faults().front().what);
  if (version->find(std::string("__version__ = '") + kTorchVersion + ".") == std::string::npos)
    return fault(version_file, std::string("this torch is not version ") + kTorchVersion);
  std::vector<const char*> names = {"libc10.so", "libtorch_cpu.so"};
  if (is_cuda_build()) names.insert(names.end(), {"libc10_cuda.so", "libtorch_cuda.so"});
  for (const char* name : names) {
    const std::string path = join_path(join_path(directory, "lib"), name);
    if (::dlopen(path.c_str(), kOpenMode) == nullptr)
      return fault(path, "it cannot be loaded: " + loader_says());
  }
  return {};
}

}  // namespace

bool is_cuda_build() {
#ifdef SATURN_CUDA
  return true;
#else
  return false;
#endif
}

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
    SATURN_TRY_VOID(open_named_libtorch());
    void* handle = ::dlopen(path.c_str(), kOpenMode);
    if (handle == nullptr) {
      return Diagnostic{
          .kind = Kind::machine,
          .where = path,
          .what = "the training library cannot be loaded: " + loader_says(),
          .expected = "LibTorch where it lay when Saturn was built, or in " + std::string(kTorchVariable),
          .fix = std::string("set ") + kTorchVariable + " to " + kTorchAdvice +
                 "; in a checkout: tools/setup, then build again"};
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
