// The declaration as text and as JSON Schema.

#include <cmath>
#include <limits>

#include "batch/batch_schema.h"
#include "batch/family.h"
#include "saturn/batch/schema.h"

namespace saturn::batch {
namespace {

using Type = Shape::Type;

// The three ways a job is expanded share one shape: any key of the job.
constexpr const char* kDurationPattern = "^[0-9.eE+]+ *(s|sec|ms|m|min|h|hours|d|days)?$";
constexpr const char* kSizePattern = "^[0-9.eE+]+ *(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$";

void add_limits(Json& schema, const Shape& shape) {
  if (std::isfinite(shape.minimum))
    schema[shape.above_minimum ? "exclusiveMinimum" : "minimum"] = shape.minimum;
  if (std::isfinite(shape.maximum))
    schema[shape.below_maximum ? "exclusiveMaximum" : "maximum"] = shape.maximum;
}

Json single_schema(const Shape& shape, Type type) {
  Json schema = Json::object();
  switch (type) {
    case Type::text:
      schema["type"] = "string";
      if (shape.choices.empty()) schema["minLength"] = 1;
      if (!shape.choices.empty()) schema["enum"] = shape.choices;
      return schema;
    case Type::boolean:
      schema["type"] = "boolean";
      return schema;
    case Type::integer:
      schema["type"] = "integer";
      add_limits(schema, shape);
      return schema;
    case Type::number:
      schema["type"] = "number";
      add_limits(schema, shape);
      return schema;
    default:
      break;
  }
  Json number = {{"type", type == Type::size ? "integer" : "number"}};
  add_limits(number, shape);
  Json text = {{"type", "string"}};
  if (type == Type::duration) text["pattern"] = kDurationPattern;
  if (type == Type::size) text["pattern"] = kSizePattern;
  schema["anyOf"] = Json::array({std::move(number), std::move(text)});
  return schema;
}

Json value_schema(const Shape& shape) {
  const bool is_list =
      shape.type == Type::text_list || shape.type == Type::integer_list || shape.type == Type::number_list;
  if (!is_list) return single_schema(shape, shape.type);
  const Type element = shape.type == Type::text_list      ? Type::text
                       : shape.type == Type::integer_list ? Type::integer
                                                          : Type::number;
  Json schema = {{"type", "array"}, {"items", single_schema(shape, element)}};
  schema["minItems"] = shape.num_elements < 0 ? 1 : shape.num_elements;
  if (shape.num_elements >= 0) schema["maxItems"] = shape.num_elements;
  return schema;
}

// Properties of an axes table: each hyper-parameter by its short and its full name.
Json axes_schema(const TableSchema& table) {
  Json properties = Json::object();
  const auto axis_of = [&](const HyperParameter& key) {
    Json list = {{"type", "array"}, {"items", value_schema(key.key->shape)}, {"minItems", 1}};
    if (table.name != "random") return list;
    Json range = {{"type", "object"},
                  {"properties",
                   {{"min", {{"type", "number"}}},
                    {"max", {{"type", "number"}}},
                    {"log", {{"type", "boolean"}}},
                    {"step", {{"type", "number"}}}}},
                  {"required", {"min", "max"}},
                  {"additionalProperties", false}};
    return Json{{"anyOf", Json::array({std::move(list), std::move(range)})}};
  };
  for (const KeySchema& key : table.keys) {
    properties[key.name] = value_schema(key.shape);
    properties[key.name]["description"] = key.help;
  }
  for (const std::string& name : hyper_parameter_names()) {
    const auto key = find_hyper_parameter(name);
    if (table.find_key(name) == nullptr) properties[name] = axis_of(*key);
    if (key->name() != name) properties[key->name()] = axis_of(*key);
  }
  for (const char* part : {"optimizer", "schedule", "lora"}) {
    Json inner = Json::object();
    for (const KeySchema& key : schema_of(std::string("job.") + part).keys)
      inner[key.name] = axis_of({part, &key});
    properties[part] = {
        {"type", "object"}, {"properties", std::move(inner)}, {"additionalProperties", false}};
  }
  return properties;
}

Json table_schema(const TableSchema& table) {
  Json schema = {{"type", "object"}, {"description", table.help}};
  Json properties = Json::object();
  Json required = Json::array();
  if (table.form == TableSchema::Form::axes) {
    properties = axes_schema(table);
  } else {
    for (const KeySchema& key : table.keys) {
      Json value = value_schema(key.shape);
      value["description"] =
          key.help + (key.shown_default.empty() ? "" : " [default: " + key.shown_default + "]");
      properties[key.name] = std::move(value);
    }
  }
  for (const KeySchema& key : table.keys) {
    // A learning rate may come from a grid, so a job's tables are complete only together.
    if (key.required && !(table.name == "optimizer" || table.name == "job")) required.push_back(key.name);
    if (key.required && table.name == "job" && (key.name == "name")) required.push_back(key.name);
  }
  for (const TableSchema& inner : table.tables) {
    Json one = table_schema(inner);
    if (inner.form == TableSchema::Form::many) {
      one = {{"type", "array"}, {"items", std::move(one)}, {"minItems", inner.required ? 1 : 0}};
    } else if (inner.form == TableSchema::Form::named) {
      one = {{"type", "object"}, {"additionalProperties", std::move(one)}, {"minProperties", 1}};
    }
    if (inner.required) required.push_back(inner.name);
    properties[inner.name] = std::move(one);
  }
  schema["properties"] = std::move(properties);
  if (!required.empty()) schema["required"] = std::move(required);
  schema["additionalProperties"] = false;
  return schema;
}

void append_key(std::string& text, const KeySchema& key) {
  const std::string note = key.required                 ? "required"
                           : !key.shown_default.empty() ? "default " + key.shown_default
                                                        : "optional";
  text +=
      "  " + key.name + std::string(key.name.size() < 18 ? 18 - key.name.size() : 1, ' ') + key.help + "\n";
  text += std::string(20, ' ') + described(key.shape) + "; " + note + "\n";
}

void append_table(std::string& text, const TableSchema& table, const std::string& prefix) {
  const std::string path = prefix + table.name;
  if (!table.name.empty()) {
    const std::string header = table.form == TableSchema::Form::many    ? "[[" + path + "]]"
                               : table.form == TableSchema::Form::named ? "[" + path + ".NAME]"
                                                                        : "[" + path + "]";
    text += "\n" + header + (table.required ? "  (required)" : "") + "\n  " + table.help + "\n";
  }
  for (const KeySchema& key : table.keys) append_key(text, key);
  for (const TableSchema& inner : table.tables)
    append_table(text, inner, table.name.empty() ? "" : path + ".");
}

}  // namespace

std::string schema_text() {
  std::string text = "A batch file is TOML. Paths are relative to it; unknown keys are errors.\n";
  append_table(text, batch_schema(), "");
  return text;
}

Json json_schema() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Saturn batch"}};
  schema.update(table_schema(batch_schema()));
  return schema;
}

std::string model_keys_text() {
  std::string text;
  for (const Family& family : families()) {
    text += (text.empty() ? "" : "\n") + std::string("family = \"") + family.name + "\"\n  " +
            family.summary + "\n";
    for (const KeySchema& key : family.sizes.keys) append_key(text, key);
  }
  return text;
}

std::string starter_batch(const std::string& name, const std::string& text_path) {
  return "# Four small GPT-2 variants on one text. `saturn validate` lists them, `saturn run` trains them.\n"
         "\n"
         "[batch]\n"
         "name = " +
         toml_text(name) +
         "\n"
         "seed = 17\n"
         "\n"
         "[data.corpus]\n"
         "kind = \"text\"\n"
         "path = " +
         toml_text(text_path) +
         "                # relative to this file\n"
         "tokenizer = \"bytes\"\n"
         "sequence_length = 128\n"
         "validation = 0.1                # held out at the end\n"
         "\n"
         "[[job]]\n"
         "name = \"gpt2-{lr}-b{batch_size}\"\n"
         "model = \"gpt2-toy\"              # `saturn models` lists the others\n"
         "data = \"corpus\"\n"
         "steps = 200                     # or epochs, or tokens\n"
         "batch_size = 16\n"
         "\n"
         "[job.optimizer]\n"
         "lr = 1e-3\n"
         "\n"
         "[job.schedule]\n"
         "kind = \"cosine\"\n"
         "warmup_steps = 20\n"
         "\n"
         "[job.grid]                      # one job for each combination\n"
         "lr = [3e-3, 1e-3]\n"
         "batch_size = [8, 16]\n";
}

}  // namespace saturn::batch
