// Feeds bytes to the batch reader: it must end, in bounded memory, with a batch or with faults that have a
// place.

#include <cstddef>
#include <cstdint>
#include <string>

#include "saturn/base/check.h"
#include "saturn/batch/identity.h"
#include "saturn/batch/read_batch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace saturn;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto batch = batch::read_batch_text("tests/golden/fuzz_batch/batch.toml", text);
  if (!batch.ok()) {
    for (const Diagnostic& fault : batch.faults()) {
      SATURN_CHECK(!fault.where.empty() && !fault.what.empty(), "a fault says what is wrong and where");
    }
    return 0;
  }
  for (const batch::Job& job : batch->jobs) {
    const auto back = batch::job_from_json(to_json(job), "job");
    SATURN_CHECK(back.ok() && *back == job, "a job that was read survives the trip through JSON");
    SATURN_CHECK(!batch::speed_class(job, batch->data.at(job.data)).empty(), "a job has a speed class");
  }
  return 0;
}
