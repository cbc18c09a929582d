// saturn models: the presets of this build, and the keys a TOML of sizes takes.

#include <algorithm>

#include "cli/command.h"
#include "saturn/base/units.h"
#include "saturn/batch/model_spec.h"
#include "saturn/batch/schema.h"

namespace saturn::cli {
namespace {

std::string row(const std::string& name, const std::string& family, const std::string& parameters,
                const std::string& layers, const std::string& heads, const std::string& width,
                const std::string& vocabulary, const std::string& sequence) {
  char text[256];
  std::snprintf(text, sizeof text, "%-16s %-8s %10s %7s %6s %6s %11s %9s\n", name.c_str(), family.c_str(),
                parameters.c_str(), layers.c_str(), heads.c_str(), width.c_str(), vocabulary.c_str(),
                sequence.c_str());
  return text;
}

struct Args {
  bool keys = false;

  void declare(Options& options) { options.flag("--keys", keys, "the keys of a TOML of sizes instead"); }

  Result<int> run(const Context& context) const {
    if (keys) {
      print(batch::model_keys_text());
      return 0;
    }
    SATURN_TRY(const std::vector<batch::ModelSpec> presets, batch::presets());
    if (context.json) {
      Json document = {{"models", Json::array()}};
      for (const batch::ModelSpec& model : presets) {
        Json one = {{"name", model.name}, {"family", model.family}, {"num_parameters", model.num_parameters}};
        one["sizes"] = model.sizes;
        document["models"].push_back(std::move(one));
      }
      print_json(document);
      return 0;
    }
    std::string text =
        row("model", "family", "parameters", "layers", "heads", "width", "outputs", "positions");
    for (const batch::ModelSpec& model : presets) {
      const bool open = model.vocabulary == 0;
      text +=
          row(model.name, model.family,
              format_count(static_cast<double>(model.num_parameters)) + (open ? "+" : ""),
              std::to_string(model.num_layers), std::to_string(model.num_heads), std::to_string(model.width),
              open ? "the data's" : std::to_string(model.vocabulary), std::to_string(model.longest_sequence));
    }
    print(text +
          "\n`model` also takes a TOML of sizes (`saturn models --keys`) or a Hugging Face directory.\n");
    return 0;
  }
};

}  // namespace

CommandEntry models() {
  return {.name = "models",
          .summary = "List the model presets.",
          .example = "saturn models",
          .declare = &make_action<Args>};
}

}  // namespace saturn::cli
