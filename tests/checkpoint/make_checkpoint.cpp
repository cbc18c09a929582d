// Writes a made-up checkpoint for tests of the command line: make_checkpoint SHELF STEP VALIDATION_LOSS.

#include <cstdio>
#include <cstdlib>

#include "saturn/base/files.h"
#include "tests/checkpoint/shards.h"

int main(int num_words, char** words) {
  if (num_words != 4) return 2;
  const std::int64_t step = std::atol(words[2]);
  const std::string directory = saturn::join_path(words[1], saturn::checkpoint::name_of_step(step));
  const auto saved = saturn::testing::save_made_up(directory, step, std::atof(words[3]));
  if (!saved.ok()) std::fputs(saturn::to_text(saved.faults()).c_str(), stderr);
  return saved.ok() ? 0 : 1;
}
