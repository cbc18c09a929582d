// Feeds bytes to the JSON reader, and what it accepts to the readers of jobs, data and machines.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace saturn;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto document = parse_json(text, "f.json");
  if (!document.ok()) return 0;
  const auto again = parse_json(to_text(*document), "f.json");
  SATURN_CHECK(again.ok() && *again == *document, "a document that was read survives the trip through text");

  if (const auto job = batch::job_from_json(*document, "f.json"); job.ok()) {
    const auto back = batch::job_from_json(to_json(*job), "f.json");
    SATURN_CHECK(back.ok() && *back == *job, "a job that was read survives the trip through JSON");
  }
  if (const auto source = batch::data_source_from_json(*document, "f.json"); source.ok()) {
    const auto back = batch::data_source_from_json(to_json(*source), "f.json");
    SATURN_CHECK(back.ok() && *back == *source, "a data source that was read survives the trip through JSON");
  }
  Diagnostics faults;
  const devices::Machine machine = devices::machine_from_json(JsonReader(*document, "f.json", "", faults));
  if (faults.empty()) {
    const Json written = to_json(machine);
    const devices::Machine back = devices::machine_from_json(JsonReader(written, "f.json", "", faults));
    SATURN_CHECK(faults.empty() && back == machine, "a machine that was read survives the trip through JSON");
  }
  return 0;
}
