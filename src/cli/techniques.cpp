// saturn techniques: the ways of this build to run a job, and those that a batch brings along.

#include "cli/command.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/worker/catalogue.h"

namespace saturn::cli {
namespace {

struct Args {
  std::string batch;

  void declare(Options& options) {
    options.optional_positional("BATCH", batch, "a batch, to list the techniques of its libraries too");
  }

  Result<int> run(const Context& context) const {
    std::vector<batch::TechniqueSpec> specs = batch::technique_specs();
    if (!batch.empty()) {
      SATURN_TRY(const batch::Batch read, batch::read_batch(batch));
      SATURN_TRY_VOID(worker::learn_techniques(read, {}));
      for (const batch::TechniqueLibrary& library : read.libraries)
        specs.push_back(*batch::find_technique(library.name));
    }
    if (context.json) {
      Json document = {{"techniques", Json::array()}};
      for (const batch::TechniqueSpec& spec : specs) {
        document["techniques"].push_back(
            {{"name", spec.name}, {"summary", spec.summary}, {"applies_to", spec.applies_to}});
      }
      print_json(document);
      return 0;
    }
    std::string text;
    for (const batch::TechniqueSpec& spec : specs) {
      std::string name = spec.name;
      name.resize(std::max<std::size_t>(name.size() + 2, 10), ' ');
      text += name + spec.summary + "\n" + std::string(name.size(), ' ') + "on " + spec.applies_to + "\n";
    }
    print(text);
    return 0;
  }
};

}  // namespace

CommandEntry techniques() {
  return {.name = "techniques",
          .summary = "List the ways to run a job, and where each applies.",
          .example = "saturn techniques",
          .declare = &make_action<Args>};
}

}  // namespace saturn::cli
