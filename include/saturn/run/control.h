// What becomes of a request to a run whose ranks do not live; a running controller has its own answers on
// top.

#pragma once

#include <optional>
#include <string>

#include "saturn/devices/machine.h"
#include "saturn/journal/control.h"
#include "saturn/journal/observer.h"
#include "saturn/journal/run_directory.h"
#include "saturn/plan/plan.h"

namespace saturn::run {

struct Answer {
  bool accepted = false;
  std::string text;  ///< one sentence for the person who asked
};

/// Carries `request` out on a directory that this process holds and that no rank runs in: what changes is
/// journaled, and then the answer.
///
/// Errors: the journal cannot be written. A request that cannot be met is an answer.
Result<Answer> answer_at_rest(const journal::Request& request, journal::RunDirectory& directory,
                              journal::RunObserver& observer);

/// Journals what came of `request`.
Result<void> record_answer(const journal::Request& request, const Answer& answer,
                           journal::RunDirectory& directory, journal::RunObserver& observer);

/// "node:2", or "2" where there is one node; nothing where the machine has no such device.
std::optional<plan::Device> device_named(const std::string& text, const devices::Machine& machine);

}  // namespace saturn::run
