// A profile as a person reads it, and what changed from one to another.

#pragma once

#include <string>
#include <vector>

#include "saturn/profile/cache.h"
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

/// A line for each set of conditions in the cache in `directory`, and how to forget one.
std::string cache_text(const std::vector<profile::CachedConditions>& kept, const std::string& directory,
                       double now_unix_s, const view::Terminal& terminal);
Json cache_json(const std::vector<profile::CachedConditions>& kept);

/// Whether a trial was added or removed, or its outcome or measurements are others.
bool differ(const profile::Profile& left, const profile::Profile& right);

}  // namespace saturn::cli
