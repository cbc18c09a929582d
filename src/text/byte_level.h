// The alphabet of byte-level vocabularies: every byte stands as one printable character.

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace saturn::text {

/// The bytes that `token` spells in the alphabet of GPT-2; nothing where a character is not of it.
std::optional<std::string> bytes_of_spelling(std::string_view token);

}  // namespace saturn::text
