// One child a library: the question in a file, the answers on its standard output.

#include "saturn/worker/catalogue.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <tuple>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/worker/child_output.h"

namespace saturn::worker {
namespace {

using DevicesKey = std::tuple<std::string, std::string, int, int>;
DevicesKey key_of(const batch::DeviceGroup& devices) {
  return {devices.kind, devices.device_class, devices.num_devices, devices.num_shares};
}

/// What a library answered, by job.
struct Answers {
  struct OnDevices {
    std::optional<std::string> refusal;
    std::vector<batch::Configuration> candidates;
  };
  struct Prediction {
    std::int64_t memory_bytes = 0;
    double step_time_s = 0.0;
  };
  std::map<std::pair<std::string, DevicesKey>, OnDevices> on_devices;
  std::map<std::pair<std::string, std::string>, Prediction> predictions;  ///< by job and configuration

  const OnDevices* find(const batch::Job& job, const batch::DeviceGroup& devices) const {
    const auto it = on_devices.find({job.name, key_of(devices)});
    return it == on_devices.end() ? nullptr : &it->second;
  }
  Prediction predicted(const batch::Job& job, const batch::Configuration& one) const {
    const auto it = predictions.find({job.name, to_line(batch::to_json(one))});
    return it == predictions.end() ? Prediction{} : it->second;
  }
};

Json question(const batch::Batch& batch, const batch::TechniqueLibrary& library,
              const std::vector<batch::DeviceGroup>& groups) {
  Json jobs = Json::array();
  for (const batch::Job& job : batch.jobs)
    for (const batch::TechniqueLibrary& one : job.libraries)
      if (one.name == library.name)
        jobs.push_back({{"job", batch::to_json(job)}, {"data", batch::to_json(batch.data.at(job.data))}});
  Json devices = Json::array();
  for (batch::DeviceGroup group : groups) {
    const int most = group.num_devices;
    for (group.num_devices = 1; group.num_devices <= most; ++group.num_devices)
      devices.push_back(batch::to_json(group));
  }
  return {{"library", library.path}, {"jobs", std::move(jobs)}, {"devices", std::move(devices)}};
}

/// A file that is gone with its owner.
struct TemporaryFile {
  std::string path = (std::filesystem::temp_directory_path() / "saturn-catalogue-XXXXXX").string();
  TemporaryFile() : fd(::mkstemp(path.data())) {}
  ~TemporaryFile() {
    if (fd.valid()) ::unlink(path.c_str());
  }
  FileDescriptor fd;
};

Result<Json> ask(const Json& request, const CatalogueChild& child) {
  const TemporaryFile file;
  if (!file.fd.valid()) return system_fault(file.path, "create", errno);
  SATURN_TRY_VOID(write_whole(file.path, to_line(request)));
  SATURN_TRY(const ChildOutput output, run_child({.executable = child.executable,
                                                  .arguments = {"worker", "--catalogue", file.path},
                                                  .deadline_s = child.deadline_s}));
  if (output.signal != 0)
    return Diagnostic{.what = "this library crashed (signal " + std::to_string(output.signal) +
                              ") when it was asked what it can do",
                      .expected = "answers"};
  if (output.exit_code != 0) {
    const std::string said = output.stderr_text.substr(0, output.stderr_text.find('\n'));
    return Diagnostic{.what = "nothing could be learnt of this library: " + said, .expected = "answers"};
  }
  SATURN_TRY(const Json reply, parse_json(output.stdout_text, "catalogue reply"));
  if (reply.contains("fault")) {
    const Json& fault = reply["fault"];
    return Diagnostic{.what = fault.at("what").get<std::string>(),
                      .expected = fault.at("expected").get<std::string>(),
                      .fix = fault.at("fix").get<std::string>()};
  }
  return reply;
}

Result<std::shared_ptr<const Answers>> answers_in(const Json& reply) {
  auto answers = std::make_shared<Answers>();
  for (const Json& told : reply.at("answers")) {
    const std::string job = told.at("job").get<std::string>();
    Answers::OnDevices& here =
        answers->on_devices[{job, key_of(batch::device_group_from_json(told.at("devices")))}];
    if (!told.at("refusal").is_null()) here.refusal = told["refusal"].get<std::string>();
    for (const Json& candidate : told.at("candidates")) {
      Diagnostics faults;
      batch::Configuration one = batch::configuration_from_json(
          JsonReader(candidate.at("configuration"), "catalogue reply", "/configuration", faults));
      if (!faults.empty()) return faults;
      answers->predictions[{job, to_line(batch::to_json(one))}] = {
          candidate.at("memory_bytes").get<std::int64_t>(), candidate.at("step_time_s").get<double>()};
      here.candidates.push_back(std::move(one));
    }
  }
  return std::shared_ptr<const Answers>(std::move(answers));
}

Result<batch::TechniqueSpec> learn(const batch::Batch& batch, const batch::TechniqueLibrary& library,
                                   const std::vector<batch::DeviceGroup>& groups,
                                   const CatalogueChild& child) {
  SATURN_TRY(const Json reply, ask(question(batch, library, groups), child));
  const std::string name = reply.at("name").get<std::string>();
  if (name != library.name)
    return Diagnostic{.what = "the technique in this library is called " + in_quotes(name),
                      .expected = "[techniques." + name + "]",
                      .fix = "rename [techniques." + library.name + "]"};
  SATURN_TRY(const std::shared_ptr<const Answers> answers, answers_in(reply));
  return batch::TechniqueSpec{
      .name = name,
      .summary = reply.at("summary").get<std::string>(),
      .applies_to = reply.at("applies_to").get<std::string>(),
      .splits_batch = reply.at("splits_batch").get<bool>(),
      .refusal = [answers](const batch::Job& job,
                           const batch::DeviceGroup& devices) -> std::optional<std::string> {
        const Answers::OnDevices* here = answers->find(job, devices);
        return here == nullptr ? "was not asked about these devices" : here->refusal;
      },
      .candidates =
          [answers](const batch::Job& job, const batch::DeviceGroup& devices) {
            const Answers::OnDevices* here = answers->find(job, devices);
            return here == nullptr ? std::vector<batch::Configuration>{} : here->candidates;
          },
      .predicted_memory_bytes =
          [answers](const batch::Job& job, const batch::DataSource&, const batch::Configuration& one) {
            return answers->predicted(job, one).memory_bytes;
          },
      .predicted_step_time_s =
          [answers](const batch::Job& job, const batch::DataSource&, const batch::Configuration& one) {
            return answers->predicted(job, one).step_time_s;
          }};
}

/// What stands on the child's standard output may be the library's own doing.
Result<batch::TechniqueSpec> learn_or_tell(const batch::Batch& batch, const batch::TechniqueLibrary& library,
                                           const std::vector<batch::DeviceGroup>& groups,
                                           const CatalogueChild& child) {
  try {
    return learn(batch, library, groups, child);
  } catch (const Json::exception& error) {
    return Diagnostic{.what = std::string("this library's answers cannot be read: ") + error.what(),
                      .expected = "answers, and nothing else on standard output"};
  }
}

}  // namespace

Result<void> learn_techniques(const batch::Batch& batch, const std::vector<batch::DeviceGroup>& groups,
                              const CatalogueChild& child) {
  Diagnostics faults;
  for (const batch::TechniqueLibrary& library : batch.libraries) {
    Result<batch::TechniqueSpec> spec = learn_or_tell(batch, library, groups, child);
    if (spec.ok()) {
      batch::add_technique(*std::move(spec));
      continue;
    }
    Diagnostic fault = spec.faults().front();
    fault.kind = Kind::input;
    fault.where = library.position.text();
    fault.what = library.path + ": " + fault.what;
    faults.push_back(std::move(fault));
  }
  if (!faults.empty()) return faults;
  return {};
}

}  // namespace saturn::worker
