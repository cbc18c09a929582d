// What pause, resume, cancel, stop, add and drain share: a request to a run, and what came of it.

#pragma once

#include <string>

#include "cli/command.h"
#include "saturn/journal/control.h"

namespace saturn::cli {

/// Has `request` carried out on the run in `directory`: by the controller that holds it, or, where none does,
/// by this process. Prints the answer; with --json {"accepted", "answer", "taken"}.
///
/// Errors: Kind::input where there is no run; Kind::machine where the directory cannot be written to, or
/// where the
///         request was refused.
Result<int> ask(const std::string& directory, journal::Request request, const Context& context);

}  // namespace saturn::cli
