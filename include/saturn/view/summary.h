// What a run came to, as text: every job with its prediction and its losses, then the makespan.

#pragma once

#include <string>

#include "saturn/journal/summary.h"
#include "saturn/view/terminal.h"

namespace saturn::view {

/// A line per job (state, technique, devices, steps, time predicted and measured, train and validation loss,
/// and how far below a unigram model's), the reasons of those that failed, the makespan predicted and
/// measured with the error of the prediction, and the best job, which is marked.
std::string summary_text(const journal::Summary& summary, const Terminal& terminal);

}  // namespace saturn::view
