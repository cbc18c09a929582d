// config.json of models of images, as timm writes it.

#pragma once

#include <map>
#include <set>
#include <string>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::batch {

/// `architecture` without the tag behind its dot.
inline std::string timm_architecture(const Json& config) {
  const std::string name = config.at("architecture").get<std::string>();
  return name.substr(0, name.find('.'));
}

/// Sizes by config key: what the architecture's name says, overlaid with `model_args`, in which only `known`
/// keys, `ignored` ones (of training alone) and `fixed` ones with their only value may stand. num_classes,
/// img_size and in_chans come from beside them where they are absent there.
inline Result<Json> timm_sizes(const Json& config, const std::string& path, Json sizes,
                               const std::set<std::string>& known, const std::set<std::string>& ignored,
                               const std::map<std::string, Json>& fixed) {
  if (const auto it = config.find("num_classes"); it != config.end()) sizes["num_classes"] = *it;
  if (const auto it = config.find("global_pool"); it != config.end()) sizes["global_pool"] = *it;
  if (const auto it = config.find("pretrained_cfg"); it != config.end() && it->is_object()) {
    const auto shape = it->find("input_size");
    if (shape != it->end() && shape->is_array() && shape->size() == 3) {
      sizes["in_chans"] = (*shape)[0];
      if (known.contains("img_size")) sizes["img_size"] = (*shape)[1];
    }
  }
  const auto arguments = config.find("model_args");
  if (arguments == config.end() || arguments->is_null()) return sizes;
  if (!arguments->is_object())
    return Diagnostic{
        .where = path + "#/model_args", .what = "this is no object", .expected = "an object or nothing"};
  for (const auto& [key, value] : arguments->items()) {
    const auto only = fixed.find(key);
    if (known.contains(key)) {
      sizes[key] = value;
    } else if (only != fixed.end() ? value != only->second && !value.is_null() : !ignored.contains(key)) {
      return Diagnostic{
          .where = path + "#/model_args/" + key,
          .what = key + " = " + value.dump() + " is not in this build",
          .expected = only != fixed.end() ? key + " = " + only->second.dump() : "no such argument"};
    }
  }
  return sizes;
}

}  // namespace saturn::batch
