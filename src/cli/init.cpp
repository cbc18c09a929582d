// saturn init: a batch to start from.

#include <filesystem>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/schema.h"

namespace saturn::cli {
namespace {

struct Args {
  std::string path = "batch.toml";
  std::string text = "corpus.txt";

  void declare(Options& options) {
    options.optional_positional("FILE", path, "the batch file to write   [default: batch.toml]");
    options.option("--text", "FILE", text, "the text to train on, relative to FILE", "corpus.txt");
  }

  Result<int> run(const Context& context) const {
    std::error_code error;
    if (std::filesystem::exists(path, error)) {
      return Diagnostic{.where = path,
                        .what = "this file exists already",
                        .expected = "a path where nothing is",
                        .fix = "name another file, as `saturn init sweep.toml`"};
    }
    std::string name = std::filesystem::path(path).stem().string();
    for (char& c : name) {
      const bool plain =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
      if (!plain) c = '-';
    }
    if (name.empty() || name.front() == '-') name = "batch" + name;
    SATURN_TRY_VOID(write_whole(path, batch::starter_batch(name, text)));
    if (context.json) {
      print_json({{"path", path}});
      return 0;
    }
    const bool text_exists = std::filesystem::exists(join_path(directory_of(path), text), error);
    print("wrote " + path + "\n" +
          (text_exists ? "" : "put a text at " + join_path(directory_of(path), text) + ", then:\n") +
          "  saturn validate " + path + "\n  saturn run " + path + "\n");
    return 0;
  }
};

}  // namespace

CommandEntry init() {
  return {.name = "init",
          .summary = "Write a small batch file to start from.",
          .example = "saturn init sweep.toml --text corpus.txt",
          .declare = &make_action<Args>};
}

}  // namespace saturn::cli
