// A profile as a person reads it, and what changed from one to another.

#pragma once

#include <string>

#include "saturn/profile/profile.h"
#include "saturn/view/terminal.h"

namespace saturn::cli {

/// Machine, then a line per trial, then the reasons of those that did not run.
std::string profile_text(const profile::Profile& profile, const view::Terminal& terminal);

/// The lines of `profile_text` without the words around them.
std::string trials_text(const profile::Profile& profile, const view::Terminal& terminal);

/// A line per trial of either, by job class and configuration: outcome, step time, and the change.
std::string profile_changes_text(const profile::Profile& left, const profile::Profile& right,
                                 const view::Terminal& terminal);
Json profile_changes_json(const profile::Profile& left, const profile::Profile& right);

/// Whether a trial was added or removed, or its outcome or measurements are others.
bool differ(const profile::Profile& left, const profile::Profile& right);

}  // namespace saturn::cli
