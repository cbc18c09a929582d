// Patterns of names, and PEFT's description of an adapter.

#include "saturn/batch/fine_tune.h"

#include <algorithm>
#include <limits>

#include "batch/family.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"

namespace saturn::batch {
namespace {

constexpr std::uint64_t kLargestConfig = std::uint64_t{1} << 20;
constexpr std::string_view kWeight = ".weight";

// Whether all of `text` is what `pattern` says, * being any run of characters. Linear in their product.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool ends_in_part(std::string_view name, std::string_view part) {
  return name == part || (name.ends_with(part) && name[name.size() - part.size() - 1] == '.');
}

bool is_fan_in_fan_out(const std::string& family) {
  return family == "gpt2";
}

// What an adapter may say that changes what it computes, with the only value that this build has for it.
const std::vector<std::pair<const char*, Json>>& fixed_settings() {
  static const std::vector<std::pair<const char*, Json>> all = {
      {"peft_type", "LORA"},       {"bias", "none"},
      {"use_rslora", false},       {"use_dora", false},
      {"use_qalora", false},       {"lora_bias", false},
      {"layers_to_transform", {}}, {"layers_pattern", {}},
      {"modules_to_save", {}},     {"trainable_token_indices", {}},
      {"exclude_modules", {}},     {"target_parameters", {}},
      {"layer_replication", {}},   {"megatron_config", {}}};
  return all;
}

bool says_nothing(const Json& value) {
  return value.is_null() || (value.is_structured() && value.empty()) || value == Json("");
}

}  // namespace

std::int64_t ParameterFact::num_elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::vector<ParameterFact> parameters_of(const ModelSpec& model) {
  const Family* const family = find_family(model.family);
  return family == nullptr ? std::vector<ParameterFact>{} : family->parameters(model);
}

std::vector<std::string> usual_targets(const std::string& family) {
  const Family* const found = find_family(family);
  return found == nullptr ? std::vector<std::string>{} : found->adapter_targets;
}

bool freezes(const std::string& pattern, const std::string& parameter) {
  return matches(pattern, parameter) || matches(pattern + ".*", parameter);
}

std::string module_of(const std::string& parameter) {
  const std::size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? parameter : parameter.substr(0, dot);
}

bool is_target(const std::vector<std::string>& targets, const std::string& parameter) {
  if (!parameter.ends_with(kWeight)) return false;
  const std::string module = module_of(parameter);
  return std::ranges::any_of(targets,
                             [&](const std::string& target) { return ends_in_part(module, target); });
}

std::string head_prefix(const std::string& family) {
  const Family* const found = find_family(family);
  return found == nullptr ? "" : found->head_prefix;
}

bool is_trained(const Job& job, const std::string& parameter) {
  if (job.lora) {
    const std::string head = head_prefix(job.model.family);
    return job.new_head && !head.empty() && parameter.starts_with(head);
  }
  return std::ranges::none_of(job.freeze,
                              [&](const std::string& pattern) { return freezes(pattern, parameter); });
}

std::string peft_name(const std::string& parameter) {
  return "base_model.model." + parameter;
}

Result<Lora> read_adapter_config(const std::string& directory, const std::string& family) {
  const std::string path = join_path(directory, kAdapterConfig);
  SATURN_TRY(const std::string text, read_whole(path, kLargestConfig));
  SATURN_TRY(const Json config, parse_json(text, path));
  Diagnostics faults;
  JsonReader reader(config, path, "", faults);
  if (!faults.empty()) return faults;
  Lora lora{.rank = 0, .alpha = 0.0, .targets = {}, .start = directory};
  for (const auto& [key, value] : fixed_settings()) {
    if (!config.contains(key) || config[key] == value || (says_nothing(config[key]) && says_nothing(value)))
      continue;
    reader.fault(key, config[key].dump() + " stands here", value.is_null() ? "null" : value.dump(),
                 "only plain LoRA adapters are read");
  }
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    if (config.contains(key) && !says_nothing(config[key]))
      reader.fault(key, config[key].dump() + " stands here", "{}", "one rank and alpha for all targets");
  }
  if (config.value("fan_in_fan_out", Json(false)) != Json(is_fan_in_fan_out(family)))
    reader.fault("fan_in_fan_out", config.value("fan_in_fan_out", Json(false)).dump() + " stands here",
                 std::string(is_fan_in_fan_out(family) ? "true" : "false") + " for a " + family + " model");
  const std::int64_t rank = reader.integer("r");
  if (rank < 1 || rank > 1 << 16)
    reader.fault("r", std::to_string(rank) + " stands here", "an integer from 1 to 65536");
  else
    lora.rank = static_cast<int>(rank);
  lora.alpha = reader.number("lora_alpha");
  if (!(lora.alpha > 0.0)) reader.fault("lora_alpha", "it is not above 0", "a number above 0");
  for (const Json& target : reader.array("target_modules")) {
    if (!target.is_string())
      reader.fault("target_modules", target.dump() + " stands here", "names of modules");
    else
      lora.targets.push_back(target.get<std::string>());
  }
  if (!faults.empty()) return faults;
  std::ranges::sort(lora.targets);
  return lora;
}

Json adapter_config(const Lora& lora, const std::string& family, const std::string& base,
                    const std::vector<std::string>& modules_to_save) {
  return {{"alpha_pattern", Json::object()},
          {"base_model_name_or_path", base},
          {"bias", "none"},
          {"fan_in_fan_out", is_fan_in_fan_out(family)},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"lora_alpha", lora.alpha},
          {"lora_dropout", 0.0},
          {"modules_to_save", modules_to_save.empty() ? Json() : Json(modules_to_save)},
          {"peft_type", "LORA"},
          {"r", lora.rank},
          {"rank_pattern", Json::object()},
          {"target_modules", lora.targets},
          {"task_type",
           find_family(family) != nullptr && find_family(family)->reads_images ? Json() : Json("CAUSAL_LM")},
          {"use_dora", false},
          {"use_rslora", false}};
}

}  // namespace saturn::batch
