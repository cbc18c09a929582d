// A technique that goes wrong, in the way that the job's number of micro-batches says: in a trial it throws
// (2) or crashes (3); asked what it can do it throws (4), crashes (5) or does not come back (6).

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "saturn/train/placed_technique.h"
#include "saturn/train/technique_library.h"
#include "saturn/train/whole_placement.h"

namespace {

using namespace saturn;

class Faulty final : public train::PlacedTechnique {
 public:
  using PlacedTechnique::PlacedTechnique;

  Result<train::StepStats> step(const train::MicroBatches& batches, double) override {
    if (context_.job.micro_batches == 3) std::raise(SIGSEGV);
    throw std::runtime_error("step " + std::to_string(batches.step) + " does not work");
  }

 protected:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext whole, whole_model_context());
    return std::unique_ptr<train::Placement>(std::make_unique<train::WholePlacement>(whole));
  }
};

std::optional<std::string> refusal(const batch::Job& job, const batch::DeviceGroup& devices) {
  if (job.micro_batches == 4) throw std::runtime_error("no idea");
  if (job.micro_batches == 5) std::raise(SIGSEGV);
  if (job.micro_batches == 6) std::this_thread::sleep_for(std::chrono::hours(1));
  if (devices.num_devices > 1) return "runs on one device";
  return std::nullopt;
}

train::TechniqueFromLibrary faulty() {
  return {.trains = {.name = "faulty", .summary = "goes wrong", .make = &train::make<Faulty>},
          .plans = {.name = "faulty",
                    .summary = "goes wrong",
                    .applies_to = "one device",
                    .splits_batch = false,
                    .refusal = &refusal,
                    .candidates =
                        [](const batch::Job&, const batch::DeviceGroup& devices) {
                          return std::vector<batch::Configuration>{
                              {.technique = "faulty", .device_class = devices.device_class}};
                        },
                    .predicted_memory_bytes = [](const batch::Job&, const batch::DataSource&,
                                                 const batch::Configuration&) { return std::int64_t{0}; },
                    .predicted_step_time_s = [](const batch::Job&, const batch::DataSource&,
                                                const batch::Configuration&) { return 1.0; }}};
}

}  // namespace

SATURN_TECHNIQUE_LIBRARY(faulty)
