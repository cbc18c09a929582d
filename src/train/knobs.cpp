// Knobs by name, with the fault of one that says something else.

#include "saturn/train/knobs.h"

#include <algorithm>

#include "saturn/base/nearest.h"

namespace saturn::train {
namespace {

Diagnostic fault(const std::string& name, const Json& value, std::string expected) {
  return {.where = "knobs#/" + name, .what = "this is " + to_line(value), .expected = std::move(expected)};
}

}  // namespace

Result<bool> flag_of(const Json& knobs, const std::string& name, bool otherwise) {
  const auto knob = knobs.find(name);
  if (knob == knobs.end()) return otherwise;
  if (!knob->is_boolean()) return fault(name, *knob, "true or false");
  return knob->get<bool>();
}

Result<std::size_t> choice_of(const Json& knobs, const std::string& name,
                              const std::vector<std::string>& words) {
  const auto knob = knobs.find(name);
  if (knob == knobs.end()) return std::size_t{0};
  for (std::size_t i = 0; i < words.size(); ++i)
    if (*knob == words[i]) return i;
  return fault(name, *knob, "one of " + listed(words));
}

}  // namespace saturn::train
