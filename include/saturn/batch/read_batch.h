// Reading a batch whose text has yet to be made into tokens, with the progress of that.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/text/corpus.h"

namespace saturn::batch {

/// A job that the program of a [search] has proposed: the batch's one [[job]] with these values.
struct Proposal {
  std::int64_t number = 0;           ///< {sample} in the job's name
  Json parameters = Json::object();  ///< hyper-parameters by name: "lr", "optimizer.lr", "batch_size"
};

/// As `read_batch(path)`. Text that has a tokenizer is encoded where that was not done before, which takes
/// time: `progress` is told of it. Its data source is from there on one of tokens: `files` are the shards in
/// the cache, and `tokenizer` is the absolute path of the tokenizer.
Result<Batch> read_batch(const std::string& path, const text::CorpusProgress& progress);

/// As `read_batch`, with the jobs of `proposals` where a program proposes them (there are no others then), on
/// content that is in memory; relative paths within start at the folder of `path`, which need not exist.
Result<Batch> read_batch_text(const std::string& path, std::string text,
                              const text::CorpusProgress& progress = {},
                              const std::vector<Proposal>& proposals = {});

}  // namespace saturn::batch
