// What simulations play on.

#include "simulate/stage.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "saturn/base/check.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::simulate {
namespace {

class RepeatablePlanner final : public run::Planner {
 public:
  explicit RepeatablePlanner(plan::SolveOptions options)
      : options_(std::move(options)), inner_(run::make_inline_planner()) {}

  Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& asked) override {
    plan::SolveOptions own = options_;
    own.start_from = asked.start_from;
    return inner_->start(problem, own);
  }
  bool busy() const override { return inner_->busy(); }
  int fd() const override { return inner_->fd(); }
  std::optional<Result<plan::Plan>> take() override { return inner_->take(); }
  void cancel() override { inner_->cancel(); }

 private:
  plan::SolveOptions options_;
  std::unique_ptr<run::Planner> inner_;
};

}  // namespace

Scratch::Scratch() {
  std::error_code ignored;
  const std::filesystem::path shared = "/dev/shm";
  const bool in_memory = std::filesystem::is_directory(shared, ignored) && ::access("/dev/shm", W_OK) == 0;
  std::string pattern =
      ((in_memory ? shared : std::filesystem::temp_directory_path()) / "saturn-simulate-XXXXXX").string();
  if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
}

Scratch::~Scratch() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::unique_ptr<run::Planner> make_repeatable_planner(plan::SolveOptions options) {
  return std::make_unique<RepeatablePlanner>(std::move(options));
}

std::string id_of(const std::string& job, const plan::Configuration& configuration) {
  return job + "/" + configuration.technique + "-x" + std::to_string(configuration.num_devices) + "r" +
         std::to_string(configuration.num_ranks) + "-" + configuration.device_class + "-" +
         configuration.knobs.dump();
}

profile::Trial trial_taking(double step_time_s, const plan::Job& job,
                            const plan::Configuration& configuration) {
  return {.id = id_of(job.name, configuration),
          .job_class = job.name,
          .jobs = {job.name},
          .configuration = {.technique = configuration.technique,
                            .num_devices = configuration.num_devices,
                            .num_ranks = configuration.num_ranks,
                            .device_class = configuration.device_class,
                            .knobs = configuration.knobs},
          .outcome = profile::Outcome::ok,
          .step_time_s = step_time_s};
}

const profile::Trial& trial_launched(const worker::LaunchRequest& request, const profile::Profile& profile) {
  const worker::Assign& assign = request.ranks.front();
  Diagnostics faults;
  const batch::Configuration configuration =
      batch::configuration_from_json(JsonReader(assign.configuration, "assign", "", faults));
  const profile::Trial* const trial = profile.find_id(
      id_of(assign.job["name"].get<std::string>(), {.technique = configuration.technique,
                                                    .num_devices = configuration.num_devices,
                                                    .num_ranks = configuration.num_ranks,
                                                    .device_class = configuration.device_class,
                                                    .knobs = configuration.knobs}));
  SATURN_CHECK(faults.empty() && trial != nullptr, "what is launched is one of the trials");
  return *trial;
}

devices::Machine machine_of(const plan::PlanProblem& problem) {
  devices::Machine machine{.cpu_model = "simulated"};
  for (const plan::Node& node : problem.nodes) {
    devices::Node entry{.name = node.name, .device_class = node.device_class};
    for (int i = 0; i < node.num_devices; ++i)
      entry.devices.push_back({.index = i, .kind = "gpu", .device_class = node.device_class});
    machine.nodes.push_back(std::move(entry));
  }
  return machine;
}

}  // namespace saturn::simulate
