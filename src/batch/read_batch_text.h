// read_batch on content that is in memory already: what the fuzzer feeds.

#pragma once

#include <string>

#include "saturn/batch/batch.h"
#include "saturn/text/corpus.h"

namespace saturn::batch {

/// As `read_batch`; relative paths within start at the folder of `path`, which need not exist.
Result<Batch> read_batch_text(const std::string& path, std::string text,
                              const text::CorpusProgress& progress = {});

}  // namespace saturn::batch
