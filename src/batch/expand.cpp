// Grids, zips, seeded draws and name templates.

#include "batch/expand.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "batch/batch_schema.h"
#include "saturn/base/nearest.h"
#include "saturn/base/random.h"
#include "saturn/batch/read_batch.h"

namespace saturn::batch {
namespace {

constexpr std::size_t kLongestName = 128;
constexpr const char* kBraces = "write it as \"gpt2-{lr}\"";

// A varied key and its values: listed, or drawn per sample.
struct Axis {
  HyperParameter key;
  std::string written;  // as in the TOML: what a template calls it
  Place place;
  std::vector<TomlValue> values;
  std::function<TomlValue(Random&)> draw;
};

struct Axes {
  std::vector<Axis> grid;
  std::vector<Axis> zip;
  std::vector<Axis> random;
  std::size_t zip_length = 1;
  RandomDraft draws{.samples = 1, .seed = std::nullopt};
  Place place;  // of the first table of axes
};

bool is_sub_table(const std::string& name) {
  return schema_of("job").find_table(name) != nullptr;
}

std::string fix_of_unknown(const std::string& name, const std::vector<std::string>& names) {
  const std::string near = did_you_mean(name, names);
  return near.empty() ? "remove it; `saturn schema` describes each key" : near;
}

// The hyper-parameter of an axis, or the fault that there is none or that two axes vary it.
std::optional<HyperParameter> key_of_axis(const std::string& name, Place place, const std::string& whose,
                                          std::set<std::string>& varied, Faults& faults) {
  const auto key = find_hyper_parameter(name);
  if (!key) {
    const std::vector<std::string> names = hyper_parameter_names();
    std::vector<std::string> meanings;
    for (const std::string& known : names) {
      if (known.ends_with("." + name)) meanings.push_back("\"" + known + "\"");
    }
    if (meanings.empty()) {
      faults.add(place, whose + "key " + in_quotes(name) + " is not a hyper-parameter of the job",
                 "some of " + listed(names), fix_of_unknown(name, names));
    } else {
      faults.add(place, whose + "key " + in_quotes(name) + " can mean more than one thing",
                 "one of " + listed(meanings), "write " + meanings.front() + " in quotes");
    }
    return std::nullopt;
  }
  if (!varied.insert(key->name()).second) {
    faults.add(place, whose + key->name() + " is varied twice",
               "each key once in grid, zip and random together", "remove one of them");
    return std::nullopt;
  }
  return key;
}

// Calls `one(name, member)` for each axis of a table; tables named as those of the job hold axes themselves.
template <class One>
void for_each_axis(const TomlValue& table, const One& one) {
  for (const TomlMember& member : table.members) {
    if (is_sub_table(member.key) && member.value.type == TomlValue::Type::table) {
      for (const TomlMember& inner : member.value.members) one(member.key + "." + inner.key, inner);
    } else {
      one(member.key, member);
    }
  }
}

TomlValue drawn_value(Place place, double value, int digits) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr;
  TomlValue drawn;
  drawn.type = TomlValue::Type::number;
  drawn.place = place;
  drawn.spelled = std::string(text, end);
  std::from_chars(text, end, drawn.number);  // the value is what its name says
  return drawn;
}

TomlValue drawn_integer(Place place, std::int64_t value) {
  TomlValue drawn;
  drawn.type = TomlValue::Type::integer;
  drawn.place = place;
  drawn.spelled = std::to_string(value);
  drawn.integer = value;
  drawn.number = static_cast<double>(value);
  return drawn;
}

// {min, max} with `log = true` or `step = N`.
struct Range {
  double min = 0.0;
  double max = 0.0;
  double step = 0.0;
  bool log = false;
};

std::function<TomlValue(Random&)> draw_from_range(const TomlValue& table, const HyperParameter& key,
                                                  const std::string& whose, Faults& faults) {
  static const TableSchema schema = [] {
    TableSchema made;
    Keys<Range>(made)
        .required(
            "min", number(-1e300, 1e300), [](auto& r) -> auto& { return r.min; }, "least value")
        .required(
            "max", number(-1e300, 1e300), [](auto& r) -> auto& { return r.max; }, "largest value")
        .key(
            "step", number(0, 1e300), [](auto& r) -> auto& { return r.step; }, "distance of the values")
        .key(
            "log", boolean(), [](auto& r) -> auto& { return r.log; }, "uniform in the logarithm");
    return made;
  }();
  Range range;
  const std::size_t before = faults.count();
  read_keys(schema, table,
            {.target = &range, .positions = nullptr, .prefix = "", .whose = whose + key.name() + ": "},
            faults);
  if (faults.count() != before) return nullptr;
  const auto refuse = [&](const std::string& what, const std::string& expected) {
    faults.add(table.place, whose + key.name() + ": " + what, expected,
               "write a range as { min = 1e-5, max = 1e-2, log = true }, or a list");
    return nullptr;
  };
  if (range.min >= range.max) return refuse("min is not below max", "min < max");
  if (range.log && range.min <= 0) return refuse("log needs values above 0", "min above 0, or no log");
  if (range.log && range.step > 0) return refuse("log and step exclude each other", "one of them");

  const Place place = table.place;
  const bool whole = key.key->shape.type == Shape::Type::integer;
  if (whole && (std::floor(range.min) != range.min || std::floor(range.max) != range.max ||
                std::floor(range.step) != range.step || std::max(-range.min, range.max) > 1e15)) {
    return refuse("the range of an integer has fractions", "whole numbers for min, max and step");
  }
  if (range.step > 0 && (range.max - range.min) / range.step > 1e9) {
    return refuse("step is too small for the range", "at most 1e9 values");
  }
  if (range.log) {
    return [=](Random& random) {
      const double drawn = range.min * std::pow(range.max / range.min, random.uniform());
      if (whole) return drawn_integer(place, std::llround(std::clamp(drawn, range.min, range.max)));
      return drawn_value(place, std::clamp(drawn, range.min, range.max), 6);
    };
  }
  if (whole || range.step > 0) {
    const double step = range.step > 0 ? range.step : 1.0;
    const auto count = static_cast<std::uint64_t>((range.max - range.min) / step + 1e-9) + 1;
    return [=](Random& random) {
      const double drawn = range.min + step * static_cast<double>(random.below(count));
      return whole ? drawn_integer(place, std::llround(drawn)) : drawn_value(place, drawn, 12);
    };
  }
  return [=](Random& random) {
    return drawn_value(place, range.min + (range.max - range.min) * random.uniform(), 6);
  };
}

// A list of values of the right shape; empty with a fault where not.
std::vector<TomlValue> listed_values(const TomlValue& value, const HyperParameter& key,
                                     const std::string& whose, Faults& faults) {
  if (value.type != TomlValue::Type::array) {
    faults.add(value.place, whose + key.name() + " = " + shown(value) + " is " + name_of(value.type),
               "a list of values to take in turn", "write " + key.key->name + " = [" + shown(value) + "]");
    return {};
  }
  if (value.elements.empty()) {
    faults.add(value.place, whose + key.name() + " lists no value", "at least one",
               "remove the key from the table");
    return {};
  }
  if (value.elements.size() > kMostJobs) {
    faults.add(value.place,
               whose + key.name() + " lists " + std::to_string(value.elements.size()) + " values",
               "at most " + std::to_string(kMostJobs) + ", the jobs of one batch",
               "list fewer values, or draw some of them with [job.random]");
    return {};
  }
  bool good = true;
  for (const TomlValue& element : value.elements)
    good &= check_shape(key.key->shape, element, whose, key.name(), faults);
  return good ? value.elements : std::vector<TomlValue>{};
}

std::vector<Axis> listed_axes(const TomlValue& table, const std::string& whose, std::set<std::string>& varied,
                              Faults& faults) {
  std::vector<Axis> axes;
  for_each_axis(table, [&](const std::string& name, const TomlMember& member) {
    const auto key = key_of_axis(name, member.key_place, whose, varied, faults);
    if (!key) return;
    std::vector<TomlValue> values = listed_values(member.value, *key, whose, faults);
    axes.push_back({*key, name, member.value.place, std::move(values), nullptr});
  });
  return axes;
}

void read_zip(const TomlValue& table, const std::string& whose, std::set<std::string>& varied, Axes& axes,
              Faults& faults) {
  axes.zip = listed_axes(table, whose, varied, faults);
  for (const Axis& axis : axes.zip) {
    const Axis& first = axes.zip.front();
    if (axis.values.size() == first.values.size()) continue;
    faults.add(axis.place,
               whose + "zip: " + axis.key.name() + " has " + std::to_string(axis.values.size()) +
                   " values, and " + first.key.name() + " has " + std::to_string(first.values.size()) +
                   " (line " + std::to_string(first.place.line) + ")",
               "lists of one length", "use [job.grid] for every combination");
  }
  if (!axes.zip.empty()) axes.zip_length = axes.zip.front().values.size();
}

void read_random(const TomlValue& table, const std::string& whose, std::set<std::string>& varied, Axes& axes,
                 Faults& faults) {
  const TableSchema& schema = schema_of("job.random");
  TomlValue settings = table;
  std::erase_if(settings.members,
                [&](const TomlMember& member) { return schema.find_key(member.key) == nullptr; });
  read_keys(schema, settings, {.target = &axes.draws, .positions = nullptr, .prefix = "", .whose = whose},
            faults);

  TomlValue ranges = table;
  std::erase_if(ranges.members,
                [&](const TomlMember& member) { return schema.find_key(member.key) != nullptr; });
  for_each_axis(ranges, [&](const std::string& name, const TomlMember& member) {
    const auto key = key_of_axis(name, member.key_place, whose, varied, faults);
    if (!key) return;
    Axis axis{*key, name, member.value.place, {}, nullptr};
    if (member.value.type == TomlValue::Type::table) {
      axis.draw = draw_from_range(member.value, *key, whose, faults);
    } else {
      axis.values = listed_values(member.value, *key, whose, faults);
      axis.draw = [values = axis.values](Random& random) { return values[random.below(values.size())]; };
    }
    axes.random.push_back(std::move(axis));
  });
  if (axes.random.empty()) {
    faults.add(table.place, whose + "[job.random] draws nothing", "at least one key with a list or a range",
               "add a line such as lr = { min = 1e-5, max = 1e-2, log = true }");
  }
}

Axes read_axes(const TomlValue& job, const std::string& whose, Faults& faults) {
  Axes axes;
  std::set<std::string> varied;
  for (const char* name : {"grid", "zip", "random"}) {
    const TomlMember* member = job.find(name);
    if (member == nullptr) continue;
    if (axes.place.line == 0) axes.place = member->key_place;
    if (member->value.type != TomlValue::Type::table) {
      faults.add(member->value.place, whose + name + " is " + name_of(member->value.type),
                 std::string("a table, [job.") + name + "]",
                 std::string("write [job.") + name + "] above its keys");
      continue;
    }
    if (name == std::string("grid")) axes.grid = listed_axes(member->value, whose, varied, faults);
    if (name == std::string("zip")) read_zip(member->value, whose, varied, axes, faults);
    if (name == std::string("random")) read_random(member->value, whose, varied, axes, faults);
  }
  return axes;
}

// A value as a name shows it: what the TOML says, lists joined by commas.
std::string spelled(const TomlValue& value) {
  if (value.type != TomlValue::Type::array) return value.spelled;
  std::string text;
  for (const TomlValue& element : value.elements) text += (text.empty() ? "" : ",") + spelled(element);
  return text;
}

// Replaces {key} by its value at this point.
class NameTemplate {
 public:
  NameTemplate(const TomlValue& name, const std::string& whose, Faults& faults)
      : name_(name), whose_(whose), faults_(faults) {}

  std::string expand(const TomlValue& point, const std::map<std::string, std::string>& axis_values) {
    std::string out;
    const std::string& text = name_.spelled;
    for (std::size_t at = 0; at < text.size();) {
      if (text[at] == '}') return refuse("has a } without its {", "braces around the name of a key", kBraces);
      if (text[at] != '{') {
        out += text[at++];
        continue;
      }
      const std::size_t end = text.find('}', at);
      if (end == std::string::npos)
        return refuse("has a { without its }", "braces around the name of a key", kBraces);
      const std::string key = text.substr(at + 1, end - at - 1);
      const auto value = value_of(key, point, axis_values);
      if (!value) {
        std::vector<std::string> names = hyper_parameter_names();
        names.emplace_back("sample");
        return refuse("asks for {" + key + "}, which the job does not set", "some of " + listed(names),
                      fix_of_unknown_in_name(key, names));
      }
      out += *value;
      at = end + 1;
    }
    return out;
  }

 private:
  std::optional<std::string> value_of(const std::string& key, const TomlValue& point,
                                      const std::map<std::string, std::string>& axis_values) const {
    if (const auto it = axis_values.find(key); it != axis_values.end()) return it->second;
    const auto parameter = find_hyper_parameter(key);
    if (!parameter) return std::nullopt;
    const TomlMember* table = parameter->table.empty() ? nullptr : point.find(parameter->table);
    if (!parameter->table.empty() && table == nullptr) return default_of(*parameter);
    const TomlMember* member = (table == nullptr ? point : table->value).find(parameter->key->name);
    return member == nullptr ? default_of(*parameter) : std::optional(spelled(member->value));
  }

  static std::optional<std::string> default_of(const HyperParameter& parameter) {
    std::string text = parameter.key->shown_default;
    std::erase(text, '"');
    return text.empty() ? std::nullopt : std::optional(text);
  }

  static std::string fix_of_unknown_in_name(const std::string& key, const std::vector<std::string>& names) {
    const std::string near = did_you_mean(key, names);
    return near.empty() ? "remove {" + key + "} from the name" : near;
  }

  std::string refuse(const std::string& what, const std::string& expected, const std::string& fix) {
    faults_.add(name_.place, whose_ + "name " + in_quotes(name_.spelled) + " " + what, expected, fix);
    return "";
  }

  const TomlValue& name_;
  const std::string& whose_;
  Faults& faults_;
};

// Puts an axis value into the point's table, making the sub-table where the job has none.
void place_value(TomlValue& point, const HyperParameter& key, TomlValue value) {
  if (key.table.empty()) {
    point.set(key.key->name, std::move(value));
    return;
  }
  if (point.find(key.table) == nullptr) {
    TomlValue table;
    table.place = point.place;
    point.set(key.table, std::move(table));
  }
  for (TomlMember& member : point.members) {
    if (member.key == key.table && member.value.type == TomlValue::Type::table) {
      member.value.set(key.key->name, std::move(value));
    }
  }
}

// A value of a proposal, as if it stood at `place`.
TomlValue proposed_value(Place place, const Json& value) {
  TomlValue proposed;
  proposed.place = place;
  proposed.spelled = value.is_string() ? value.get<std::string>() : value.dump();
  if (value.is_boolean()) {
    proposed.type = TomlValue::Type::boolean;
    proposed.boolean = value.get<bool>();
  } else if (value.is_number_integer()) {
    proposed = drawn_integer(place, value.get<std::int64_t>());
  } else if (value.is_number()) {
    proposed.type = TomlValue::Type::number;
    proposed.number = value.get<double>();
  } else if (value.is_array()) {
    proposed.type = TomlValue::Type::array;
    for (const Json& element : value) proposed.elements.push_back(proposed_value(place, element));
  } else {
    proposed.type = TomlValue::Type::string;  // also what no key takes, which its shape refuses
  }
  return proposed;
}

}  // namespace

std::vector<JobPoint> expand_proposals(const TomlValue& job, const std::vector<Proposal>& proposals,
                                       Faults& faults) {
  const TomlMember* name = job.find("name");
  const bool named = name != nullptr && name->value.type == TomlValue::Type::string;
  const std::string whose = named ? "job " + in_quotes(name->value.spelled) + ": " : "";
  TomlValue base = job;
  for (const char* const axes : {"grid", "zip", "random"}) {
    if (const TomlMember* member = job.find(axes)) {
      faults.add(member->key_place,
                 whose + "[job." + axes + "] stands beside a program that proposes its values",
                 "values from one of them", "remove it, or choose method = \"asha\"");
    }
    std::erase_if(base.members, [&](const TomlMember& member) { return member.key == axes; });
  }
  if (named && name->value.spelled.find("{sample}") == std::string::npos) {
    faults.add(name->value.place, whose + "every proposed job would have this name",
               "{sample}, the number of the proposal, in it",
               "name = " + in_quotes(name->value.spelled + "-{sample}"));
  }
  if (proposals.empty()) return {{std::move(base), "", false}};

  std::vector<JobPoint> points;
  NameTemplate name_template(named ? name->value : job, whose, faults);
  for (const Proposal& proposal : proposals) {
    JobPoint point{base, "", true};
    std::map<std::string, std::string> values;
    std::set<std::string> varied;
    const std::string of = "proposal " + std::to_string(proposal.number) + " for " + whose;
    for (const auto& [key, value] : proposal.parameters.items()) {
      const auto parameter = key_of_axis(key, job.place, of, varied, faults);
      if (!parameter) continue;
      const TomlValue proposed = proposed_value(job.place, value);
      values[key] = values[parameter->name()] = spelled(proposed);
      place_value(point.table, *parameter, proposed);
    }
    values["sample"] = std::to_string(proposal.number);
    if (named) point.name = name_template.expand(point.table, values);
    points.push_back(std::move(point));
  }
  return points;
}

std::string name_problem(const std::string& name) {
  if (name.empty()) return "at least one character";
  if (name.size() > kLongestName) return "at most " + std::to_string(kLongestName) + " characters";
  if (name.front() == '-' || name.front() == '.')
    return "a name that does not begin with " + in_quotes(name.substr(0, 1));
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && std::string("._-+=,@").find(c) == std::string::npos) {
      return "letters, digits and . _ - + = , @, for it names a folder";
    }
  }
  if (name.find("..") != std::string::npos) return "a name without \"..\", for it names a folder";
  return "";
}

std::vector<JobPoint> expand_job(const TomlValue& job, std::uint64_t batch_seed, std::size_t most,
                                 Faults& faults) {
  const TomlMember* name = job.find("name");
  const bool named = name != nullptr && name->value.type == TomlValue::Type::string;
  const std::string whose = named ? "job " + in_quotes(name->value.spelled) + ": " : "";
  const std::size_t before = faults.count();
  const Axes axes = read_axes(job, whose, faults);

  TomlValue base = job;
  std::erase_if(base.members, [](const TomlMember& member) {
    return member.key == "grid" || member.key == "zip" || member.key == "random";
  });
  // Faulty axes: one point without them, so that the job's other faults are found in the same pass.
  if (faults.count() != before) return {{std::move(base), "", false}};

  std::size_t count = axes.zip_length * static_cast<std::size_t>(axes.draws.samples);
  for (const Axis& axis : axes.grid) {
    count =
        count > kMostJobs ? count : count * axis.values.size();  // each factor is at most 4 Mi: no overflow
  }
  if (count > most) {
    faults.add(axes.place.line > 0 ? axes.place : job.place,
               whose + "the batch grows beyond " + std::to_string(kMostJobs) + " jobs here",
               "at most " + std::to_string(kMostJobs) + " jobs in one batch",
               "list fewer values, or draw some of them with [job.random]");
    return {};
  }

  std::vector<JobPoint> points;
  points.reserve(count);
  NameTemplate name_template(named ? name->value : job, whose, faults);
  const std::uint64_t seed = axes.draws.seed.value_or(batch_seed);
  for (std::size_t index = 0; index < count; ++index) {
    JobPoint point{base, "", true};
    std::map<std::string, std::string> axis_values;
    const auto take = [&](const Axis& axis, TomlValue value) {
      axis_values[axis.written] = axis_values[axis.key.name()] = spelled(value);
      if (find_hyper_parameter(axis.key.key->name)) axis_values[axis.key.key->name] = spelled(value);
      place_value(point.table, axis.key, std::move(value));
    };
    // index = ((grid digits) zip) sample
    std::size_t rest = index;
    const std::size_t sample = rest % static_cast<std::size_t>(axes.draws.samples);
    rest /= static_cast<std::size_t>(axes.draws.samples);
    for (const Axis& axis : axes.zip) take(axis, axis.values[rest % axes.zip_length]);
    rest /= axes.zip_length;
    for (auto axis = axes.grid.rbegin(); axis != axes.grid.rend(); ++axis) {
      take(*axis, axis->values[rest % axis->values.size()]);
      rest /= axis->values.size();
    }
    for (const Axis& axis : axes.random) {
      // Keyed by names, so that adding a key, a job or a sample changes no other draw.
      Random random(
          mix_key(seed, mix_text(0, named ? name->value.spelled : ""), sample, mix_text(0, axis.key.name())));
      take(axis, axis.draw(random));
    }
    if (!axes.random.empty()) axis_values["sample"] = std::to_string(sample);
    if (named) point.name = name_template.expand(point.table, axis_values);
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace saturn::batch
