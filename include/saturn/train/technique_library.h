// A technique from outside: a shared object that a batch names, with both halves of a technique in it.
//
// In a batch (`saturn techniques BATCH` then lists it):
//
//     [techniques.row-by-row]
//     library = "librow_by_row.so"      # relative to the batch
//
// Adding a technique in one file, tests/plugin/row_by_row.cpp being one that works:
//
//  1. How it trains: a class. Derive from PlacedTechnique (train/placed_technique.h) and say in
//     make_placement() how a rank holds the parameters: WholePlacement, or a Placement of your own
//     (train/placement.h). Which rows a rank computes is micro_batches_of(); everything else, from clipping
//     to checkpoints and the final weights, is there already. For another order of a step, override step()
//     and evaluate(), or derive from Technique itself (train/technique.h).
//  2. Where it runs and what it needs: a batch::TechniqueSpec (batch/technique_spec.h). refusal() says why a
//     job cannot run this way on some devices; candidates() are the configurations worth a trial, best guess
//     first, knobs at their defaults left out; predicted_memory_bytes() and predicted_step_time_s() order and
//     cut the search (formulae: batch/memory_model.h, batch/time_model.h).
//  3. The last line: SATURN_TECHNIQUE_LIBRARY(function), `function` giving both halves.
//  4. Build it in a checkout of the saturn that will load it: in tests/plugin/CMakeLists.txt,
//     `saturn_technique_library(row_by_row row_by_row.cpp)`.
//
// What must hold: the same training as `single` (same loss, same updates; `saturn verify BATCH` measures it):
// the loss is weighted by the targets of the whole batch, everything random is a function of StepContext, and
// sums are taken in an order that a restart does not change. Collectives are made alike by every rank.
//
// A technique for Saturn itself is the same in two files, src/techniques/NAME.cpp and
// src/batch/techniques/NAME.cpp, with one line in src/techniques/registry.def.
//
// The library brings its own copy of what it uses of Saturn, so both must be of one build: before anything
// else is called, `saturn_technique_abi` must tell the tag that the loading side computes.

#pragma once

#include <torch/headeronly/version.h>

#include <string>

#include "saturn/base/result.h"
#include "saturn/base/version.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/placement.h"
#include "saturn/train/technique.h"

namespace saturn::train {

/// Both halves. `plans.name` is the NAME of [techniques.NAME], `trains.name` the same.
struct TechniqueFromLibrary {
  TechniqueEntry trains;
  batch::TechniqueSpec plans;
};

/// What must be equal for objects to be passed between this library and another: versions of Saturn, LibTorch
/// and the compiler, and the sizes of what is passed.
inline std::string technique_abi() {
  std::string tag = "saturn ";
  tag += version();
  tag += " libtorch " TORCH_VERSION " g++, sizes";
  for (const std::size_t number :
       {std::size_t{__GNUC__}, std::size_t{__GXX_ABI_VERSION}, std::size_t{_GLIBCXX_USE_CXX11_ABI},
        sizeof(TechniqueFromLibrary), sizeof(TechniqueContext), sizeof(Technique), sizeof(Model),
        sizeof(Parameter), sizeof(StepContext), sizeof(StateTensor), sizeof(Placement), sizeof(Communicator),
        sizeof(batch::Job), sizeof(batch::DataSource), sizeof(batch::Configuration)}) {
    tag += ' ';
    tag += std::to_string(number);
  }
  return tag;
}

/// Opens a library for the rest of the process's life. Only ranks and the catalogue's child do.
///
/// Errors: Kind::input at `path`: it cannot be loaded (with the loader's words), has no technique in it, or
/// is of another build.
Result<TechniqueFromLibrary> open_technique_library(const std::string& path);

/// What the controller asks a library, in JSON (see worker/catalogue.h). Nothing is thrown.
std::string catalogue_reply(const std::string& request);

}  // namespace saturn::train

/// The symbols of a library whose technique `function` gives.
#define SATURN_TECHNIQUE_LIBRARY(function)                                               \
  extern "C" __attribute__((visibility("default"))) const char* saturn_technique_abi() { \
    static const std::string tag = ::saturn::train::technique_abi();                     \
    return tag.c_str();                                                                  \
  }                                                                                      \
  extern "C" __attribute__((visibility("default"))) void saturn_technique(               \
      ::saturn::train::TechniqueFromLibrary* into) {                                     \
    *into = function();                                                                  \
  }
