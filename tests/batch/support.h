// A small valid batch in a folder of its own, to change one thing at a time.

#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {

class BatchFolder {
 public:
  BatchFolder() { write("text.txt", std::string(2000, 'a')); }

  void write(const std::string& name, const std::string& content) {
    REQUIRE(write_whole(directory_.file(name), content).ok());
  }

  std::string path() const { return directory_.file("batch.toml"); }
  std::string file(const std::string& name) const { return directory_.file(name); }

  /// The head of a batch, then `jobs`.
  Result<batch::Batch> read(const std::string& jobs) {
    write("batch.toml",
          "[batch]\nname = \"b\"\nseed = 5\n"
          "[data.text]\nkind = \"text\"\npath = \"text.txt\"\nsequence_length = 16\n" +
              jobs);
    return batch::read_batch(path());
  }

 private:
  TemporaryDirectory directory_;
};

/// Line at which the `jobs` of BatchFolder::read begin.
inline constexpr int kFirstJobLine = 8;

inline const std::string kPlainJob =
    "[[job]]\nname = \"plain\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 10\nbatch_size = "
    "4\noptimizer.lr = 1e-3\n";

/// Little-endian bytes of tokens or header words.
template <class Word>
std::string bytes_of(std::initializer_list<std::int64_t> words, std::size_t padded_to = 0) {
  std::string bytes;
  for (const std::int64_t word : words) {
    const Word narrow = static_cast<Word>(word);
    bytes.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
  }
  if (bytes.size() < padded_to) bytes.resize(padded_to, '\0');
  return bytes;
}

inline std::string all_names(const batch::Batch& batch) {
  std::string names;
  for (const batch::Job& job : batch.jobs) names += (names.empty() ? "" : " ") + job.name;
  return names;
}

/// All faults as text, empty for a good result.
template <class T>
std::string faults_of(const Result<T>& result) {
  return result.ok() ? "" : to_text(result.faults());
}

}  // namespace saturn::testing
