// Loading a technique's library, and answering what the controller asks of it.

#include "saturn/train/technique_library.h"

#include <dlfcn.h>

#include <cmath>
#include <stdexcept>

#include "saturn/base/json.h"
#include "saturn/batch/batch.h"

namespace saturn::train {
namespace {

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(library, name));
}

Diagnostic unusable(const std::string& path, std::string what, std::string expected, std::string fix = "") {
  return {.where = path, .what = std::move(what), .expected = std::move(expected), .fix = std::move(fix)};
}

Json answer(const batch::TechniqueSpec& spec, const batch::Job& job, const batch::DataSource& data,
            const batch::DeviceGroup& devices) {
  Json told = {
      {"job", job.name}, {"devices", to_json(devices)}, {"refusal", Json()}, {"candidates", Json::array()}};
  if (const auto why = spec.refusal(job, devices)) {
    told["refusal"] = *why;
    return told;
  }
  for (const batch::Configuration& one : spec.candidates(job, devices)) {
    if (one.technique != spec.name || one.num_devices > devices.num_devices ||
        one.device_class != devices.device_class)
      throw std::runtime_error("asked about " + std::to_string(devices.num_devices) + " x " +
                               devices.device_class + " it offers " + batch::to_text(one));
    const double step_time_s = spec.predicted_step_time_s(job, data, one);
    if (!std::isfinite(step_time_s)) throw std::runtime_error("its predicted_step_time_s is no number");
    told["candidates"].push_back({{"configuration", batch::to_json(one)},
                                  {"memory_bytes", spec.predicted_memory_bytes(job, data, one)},
                                  {"step_time_s", step_time_s}});
  }
  return told;
}

Result<Json> catalogue(const std::string& request) {
  SATURN_TRY(const Json document, parse_json(request, "catalogue request"));
  SATURN_TRY(const TechniqueFromLibrary found,
             open_technique_library(document.at("library").get<std::string>()));
  const batch::TechniqueSpec& spec = found.plans;
  Json reply = {{"name", spec.name},
                {"summary", spec.summary},
                {"applies_to", spec.applies_to},
                {"splits_batch", spec.splits_batch},
                {"answers", Json::array()}};
  for (const Json& question : document.at("jobs")) {
    SATURN_TRY(const batch::Job job, batch::job_from_json(question.at("job"), "catalogue request#/jobs"));
    SATURN_TRY(const batch::DataSource data,
               batch::data_source_from_json(question.at("data"), "catalogue request#/jobs"));
    for (const Json& devices : document.at("devices"))
      reply["answers"].push_back(answer(spec, job, data, batch::device_group_from_json(devices)));
  }
  return reply;
}

}  // namespace

Result<TechniqueFromLibrary> open_technique_library(const std::string& path) {
  // Everything is resolved now, so that a missing symbol is told here and not in the middle of a step.
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return unusable(path, std::string("this library cannot be loaded: ") + (why == nullptr ? "?" : why),
                    "a shared object built with saturn_technique_library()");
  }
  auto* const abi = symbol<const char*()>(library, "saturn_technique_abi");
  auto* const technique = symbol<void(TechniqueFromLibrary*)>(library, "saturn_technique");
  if (abi == nullptr || technique == nullptr)
    return unusable(path,
                    std::string("this library has no symbol ") +
                        (abi == nullptr ? "saturn_technique_abi" : "saturn_technique"),
                    "a technique, which ends in SATURN_TECHNIQUE_LIBRARY(...)",
                    "see include/saturn/train/technique_library.h");
  if (const std::string tag = abi(); tag != technique_abi())
    return unusable(path, "this library was built for " + in_quotes(tag), in_quotes(technique_abi()),
                    "build it again with this saturn");
  TechniqueFromLibrary found;
  technique(&found);
  return found;
}

std::string catalogue_reply(const std::string& request) {
  Diagnostics faults;
  try {
    const Result<Json> reply = catalogue(request);
    if (reply.ok()) return to_line(*reply);
    faults = reply.faults();
  } catch (const std::exception& error) {
    faults = {{.what = std::string("this library threw: ") + error.what(), .expected = "answers"}};
  } catch (...) {
    faults = {{.what = "this library threw something that is no std::exception", .expected = "answers"}};
  }
  const Diagnostic& first = faults.front();
  return to_line(Json{{"fault", {{"what", first.what}, {"expected", first.expected}, {"fix", first.fix}}}});
}

}  // namespace saturn::train
