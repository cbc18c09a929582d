// saturn schema: every table and key of a batch file.

#include "saturn/batch/schema.h"

#include "cli/command.h"

namespace saturn::cli {
namespace {

struct Args {
  void declare(Options&) {}

  Result<int> run(const Context& context) const {
    if (context.json) {
      print_json(batch::json_schema());
    } else {
      print(batch::schema_text());
    }
    return 0;
  }
};

}  // namespace

CommandEntry schema() {
  return {.name = "schema",
          .summary = "Describe every key of a batch file; with --json as a JSON Schema for editors.",
          .example = "saturn schema --json > batch.schema.json",
          .declare = &make_action<Args>};
}

}  // namespace saturn::cli
