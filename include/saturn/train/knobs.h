// Reading the knobs of a configuration.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::train {

/// A knob that is on or off. Errors: Kind::input for another value.
Result<bool> flag_of(const Json& knobs, const std::string& name, bool otherwise);

/// Which of `words` a knob says, as an index; 0 where it is absent. Errors: Kind::input for another value.
Result<std::size_t> choice_of(const Json& knobs, const std::string& name,
                              const std::vector<std::string>& words);

}  // namespace saturn::train
