// "did you mean": the known name nearest to what was typed.

#pragma once

#include <string>
#include <vector>

namespace saturn {

/// The nearest of `known` within an edit distance (with transpositions) of a third of its length; empty
/// where nothing is near.
std::string nearest(const std::string& typed, const std::vector<std::string>& known);

/// "a, b, c".
std::string listed(const std::vector<std::string>& names);

/// `did you mean "x"?`, or empty.
std::string did_you_mean(const std::string& typed, const std::vector<std::string>& known);

}  // namespace saturn
