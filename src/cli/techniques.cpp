// saturn techniques: the ways of this build to run a job.

#include "cli/command.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::cli {
namespace {

struct Args {
  void declare(Options&) {}

  Result<int> run(const Context& context) const {
    if (context.json) {
      Json document = {{"techniques", Json::array()}};
      for (const batch::TechniqueSpec& spec : batch::technique_specs()) {
        document["techniques"].push_back(
            {{"name", spec.name}, {"summary", spec.summary}, {"applies_to", spec.applies_to}});
      }
      print_json(document);
      return 0;
    }
    std::string text;
    for (const batch::TechniqueSpec& spec : batch::technique_specs()) {
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
