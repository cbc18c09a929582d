// [data.NAME] tables to data sources that exist and are long enough.

#pragma once

#include <map>
#include <string>

#include "batch/faults.h"
#include "batch/toml_document.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/samples.h"
#include "saturn/text/corpus.h"

namespace saturn::batch {

/// A source, and how its tokens are cut where they could be counted.
struct ReadData {
  DataSource source;
  bool usable = false;  ///< false where a fault was told: jobs on it are not checked against it
  Split split;
};

/// `tables` is the value of `data` in the batch; paths are relative to `base_directory`. Text that has a
/// tokenizer is made into tokens on the way, which `progress` is told of.
std::map<std::string, ReadData> read_data(const TomlValue& tables, const std::string& base_directory,
                                          const text::CorpusProgress& progress, Faults& faults);

}  // namespace saturn::batch
