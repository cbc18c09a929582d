#include "saturn/batch/schema.h"

#include "batch/batch_schema.h"
#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::TableSchema;
using testing::BatchFolder;
using testing::faults_of;

// The part of the JSON Schema that describes `table`.
const Json& part_of(const Json& schema, const TableSchema& table) {
  const Json& part = schema.at("properties").at(table.name);
  if (table.form == TableSchema::Form::many) return part.at("items");
  if (table.form == TableSchema::Form::named) return part.at("additionalProperties");
  return part;
}

void check_table(const Json& schema, const TableSchema& table) {
  CHECK(schema.at("additionalProperties") == false);
  for (const batch::KeySchema& key : table.keys) {
    CAPTURE(key.name);
    REQUIRE(schema.at("properties").contains(key.name));
    CHECK_FALSE(key.help.empty());
  }
  for (const TableSchema& inner : table.tables) {
    CAPTURE(inner.name);
    CHECK_FALSE(inner.help.empty());
    check_table(part_of(schema, inner), inner);
  }
}

TEST_SUITE("batch") {
  TEST_CASE("batch/schema: text and JSON Schema hold every declared key") {
    const std::string text = batch::schema_text();
    for (const TableSchema& table : batch::batch_schema().tables) {
      for (const batch::KeySchema& key : table.keys)
        CHECK(text.find("\n  " + key.name + " ") != std::string::npos);
    }
    check_table(batch::json_schema(), batch::batch_schema());
  }

  TEST_CASE("batch/schema: the JSON Schema knows limits and choices and defaults") {
    const Json job = batch::json_schema().at("properties").at("job").at("items").at("properties");
    CHECK(job.at("precision").at("enum") == Json{"fp32", "bf16"});
    CHECK(job.at("batch_size").at("minimum") == 1);
    CHECK(job.at("dropout").at("exclusiveMaximum") == 1);
    CHECK(job.at("devices").at("items").at("type") == "integer");
    CHECK(job.at("grid").at("properties").contains("lr"));
    CHECK(job.at("grid").at("properties").contains("optimizer.lr"));
    CHECK(job.at("precision").at("description").get<std::string>().find("[default: \"fp32\"]") !=
          std::string::npos);
  }

  TEST_CASE("batch/schema: every shown default is a value its key takes") {
    std::vector<std::pair<std::string, const TableSchema*>> tables;
    for (const TableSchema& table : batch::batch_schema().tables) {
      tables.emplace_back(table.name, &table);
      for (const TableSchema& inner : table.tables)
        tables.emplace_back(table.name + "." + inner.name, &inner);
    }
    for (const auto& [path, table] : tables) {
      for (const batch::KeySchema& key : table->keys) {
        if (key.shown_default.empty()) continue;
        CAPTURE(path + "." + key.name + " = " + key.shown_default);
        const auto value = batch::parse_toml("v = " + key.shown_default, "t");
        REQUIRE(value.ok());
        batch::Faults faults("t");
        // 0 may stand for "none" where the key itself must be larger.
        const bool means_none = key.shown_default == "0";
        CHECK((means_none || check_shape(key.shape, value->members[0].value, "", key.name, faults)));
      }
    }
  }

  TEST_CASE("batch/schema: the starter batch reads without a fault") {
    BatchFolder folder;
    folder.write("corpus.txt", std::string(100000, 'x'));
    folder.write("batch.toml", batch::starter_batch("first", "corpus.txt"));
    const auto batch = batch::read_batch(folder.path());
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->jobs.size() == 4);
  }
}

}  // namespace
}  // namespace saturn
