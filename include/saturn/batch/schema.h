// The batch file's reference, made from the declaration that reads it.

#pragma once

#include <string>

#include "saturn/base/json.h"

namespace saturn::batch {

/// Every table and key with type, default and meaning, as `saturn schema` prints it.
std::string schema_text();

/// JSON Schema (2020-12) of a batch file; editors complete and check TOML by it.
Json json_schema();

/// A batch to start from, with its paths as given; it reads without a fault where `text_path` is long enough.
std::string starter_batch(const std::string& name, const std::string& text_path);

/// The keys of a TOML of sizes, family by family.
std::string model_keys_text();

}  // namespace saturn::batch
