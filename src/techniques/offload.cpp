// A model that does not fit: its weights and optimiser state lie in host memory, or for CPU slots in a mapped
// file, and its layers pass through the device.

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/streamed.h"
#include "saturn/train/technique.h"

namespace saturn::techniques {
namespace {

std::optional<std::int64_t> resident_of(const Json& knobs) {
  const auto written = knobs.find("resident");
  if (written == knobs.end()) return std::nullopt;
  SATURN_CHECK(written->is_number_integer(), "a configuration's knobs are checked where they are read");
  return written->get<std::int64_t>();
}

class Offload final : public train::Technique {
 public:
  explicit Offload(train::TechniqueContext context)
      : Technique(std::move(context)),
        streamed_(*context_.model, context_.job, context_.device, context_.directory,
                  resident_of(context_.configuration.knobs)) {
    SATURN_CHECK(context_.communicator.num_ranks() == 1, "offload runs on one rank");
  }

  Result<void> prepare(train::WeightSource& source) override { return streamed_.place(source); }
  Result<train::StepStats> step(const train::MicroBatches& batches, double learning_rate) override {
    return streamed_.step(batches, learning_rate);
  }
  Result<train::EvaluationSums> evaluate(const train::MicroBatches& batches) override {
    return streamed_.evaluate(batches);
  }
  Result<void> for_each_state(const train::StateVisitor& visit) override {
    return streamed_.for_each_state(visit);
  }
  void state_loaded() override { streamed_.state_loaded(); }
  at::Tensor gather_weight(std::size_t index) override { return streamed_.gather_weight(index); }
  Json tuned_knobs() const override {
    Json knobs = context_.configuration.knobs;
    if (streamed_.is_tuned()) knobs["resident"] = streamed_.num_resident();
    return knobs;
  }
  std::map<std::string, double> measured() const override { return streamed_.measured(); }

 private:
  train::StreamedModel streamed_;
};

}  // namespace

train::TechniqueEntry offload() {
  return {.name = "offload",
          .summary = "stream layers through the device from host memory or disk",
          .make = &train::make<Offload>};
}

}  // namespace saturn::techniques
