// The tokenizer of a model beside its weights, so that others read text as training did.

#pragma once

#include <string>

#include "saturn/base/result.h"

namespace saturn::train {

/// Copies the files of the tokenizer at `tokenizer` (as text::open_tokenizer takes it), and those that say
/// how other programs use it, into the existing directory `into`.
Result<void> copy_tokenizer(const std::string& tokenizer, const std::string& into);

}  // namespace saturn::train
