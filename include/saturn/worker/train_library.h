// The training library as the executable sees it: where it lies and the C functions it exports.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::worker {

/// An opened libsaturn_train; it stays open until the process ends.
struct TrainLibrary {
  std::string path;

  /// `int saturn_train_main(int control_fd)`: one rank's life; returns its exit code or never.
  int (*train_main)(int control_fd) = nullptr;

  /// `int saturn_eval_main(const char* request, char** reply)`: JSON in, JSON out (to be freed with `free`);
  /// returns an exit code. Null where the library does not have it.
  int (*eval_main)(const char* request, char** reply) = nullptr;

  /// `const char* saturn_train_about()`: {"saturn": "0.1.0", "libtorch": "2.11.0", "cuda": false}.
  const char* (*about)() = nullptr;

  /// `char* saturn_catalogue(const char* request)`: what a technique's library answers, JSON in and JSON out
  /// (to be freed with `free`; see worker/catalogue.h). Null where the library does not have it.
  char* (*catalogue)(const char* request) = nullptr;
};

/// Where it is looked for, in order: SATURN_TRAIN_LIBRARY alone where that is set, else beside the
/// executable, else in the lib directory beside the executable's.
std::vector<std::string> train_library_paths();

/// Whether this executable and its training library were built for GPUs too.
bool is_cuda_build();

/// Opens it with its LibTorch (some 0.2 s): the one in the directory SATURN_LIBTORCH where that is set, else the
/// one beside it or of the build. Only `saturn worker` and `saturn eval` call this: no process that
/// forks later may.
///
/// Errors: Kind::machine where there is none, where it cannot be loaded (with the loader's words), or where
/// it belongs to another version of saturn, or where SATURN_LIBTORCH names no torch of the right version.
Result<TrainLibrary> open_train_library();

}  // namespace saturn::worker
