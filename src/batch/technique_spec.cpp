// The techniques of this build as the controller sees them.

#include "saturn/batch/technique_spec.h"

#include <algorithm>

namespace saturn::batch {
namespace {

bool has_gpus(const DeviceGroup& devices) {
  return devices.kind == "gpu";
}

// Whole GPUs, or the shares of one: two ranks of a job never share a GPU.
int num_whole_devices(const DeviceGroup& devices) {
  return has_gpus(devices) ? (devices.num_devices + devices.num_shares - 1) / devices.num_shares
                           : devices.num_devices;
}

// Bytes a rank keeps alive between forward and backward for one micro-batch of so many rows. With attention
// that never forms its matrix, 16-bit activations of a layer take 34 bytes a token and unit of width, 32-bit
// ones twice that; the head's logits are formed in pieces and do not stay.
std::int64_t activation_bytes(const Job& job, const DataSource& data, int num_rows) {
  const std::int64_t bytes_of_unit = job.precision == "fp32" ? 68 : 34;
  const std::int64_t tokens = static_cast<std::int64_t>(num_rows) * data.sequence_length;
  return tokens * job.model.width * bytes_of_unit * job.model.num_layers;
}

// Weights, gradients and AdamW's two moments in fp32; bf16 adds a copy of the weights in use.
std::int64_t state_bytes(const Job& job) {
  const std::int64_t per_parameter = job.precision == "fp32" ? 16 : 18;
  return job.model.num_parameters * per_parameter;
}

int rows_of_largest_rank(const Job& job, int num_ranks) {
  const int rows = (job.batch_size + num_ranks - 1) / num_ranks;
  return (rows + job.micro_batches - 1) / job.micro_batches;
}

Configuration configuration(const char* technique, const DeviceGroup& devices, int num_ranks) {
  return {.technique = technique,
          .num_devices = devices.num_devices,
          .num_ranks = num_ranks,
          .device_class = devices.device_class,
          .knobs = Json::object()};
}

std::optional<std::string> single_refusal(const Job&, const DeviceGroup& devices) {
  if (has_gpus(devices) && num_whole_devices(devices) > 1) return "runs on one GPU only";
  return std::nullopt;
}

std::vector<Configuration> single_candidates(const Job&, const DeviceGroup& devices) {
  return {configuration("single", devices, 1)};
}

std::int64_t single_memory_bytes(const Job& job, const DataSource& data, const Configuration&) {
  return state_bytes(job) + activation_bytes(job, data, rows_of_largest_rank(job, 1));
}

std::optional<std::string> ddp_refusal(const Job& job, const DeviceGroup& devices) {
  if (devices.num_devices < 2) return "needs at least 2 devices";
  if (has_gpus(devices) && devices.num_devices % devices.num_shares != 0) return "needs whole GPUs";
  const int num_ranks = num_whole_devices(devices);
  if (num_ranks < 2) return "needs at least 2 GPUs, and these are shares of one";
  if (job.batch_size < num_ranks) return "needs a row of the batch for every rank";
  return std::nullopt;
}

std::vector<Configuration> ddp_candidates(const Job&, const DeviceGroup& devices) {
  return {configuration("ddp", devices, num_whole_devices(devices))};
}

// Gradients live in the buckets that are averaged, so there is one copy of them.
std::int64_t ddp_memory_bytes(const Job& job, const DataSource& data, const Configuration& configuration) {
  return state_bytes(job) + activation_bytes(job, data, rows_of_largest_rank(job, configuration.num_ranks));
}

bool allows(const std::vector<std::string>& names, const std::string& name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

const std::vector<TechniqueSpec>& technique_specs() {
  static const std::vector<TechniqueSpec> specs = {
      {.name = "single",
       .summary = "one process holds the whole model",
       .applies_to = "one GPU or a share of one; any number of CPU slots, whose threads it uses together",
       .splits_batch = false,
       .refusal = &single_refusal,
       .candidates = &single_candidates,
       .predicted_memory_bytes = &single_memory_bytes},
      {.name = "ddp",
       .summary = "replicate the model, average gradients",
       .applies_to = "two or more GPUs or CPU slots, one process each; every one holds the whole model",
       .splits_batch = true,
       .refusal = &ddp_refusal,
       .candidates = &ddp_candidates,
       .predicted_memory_bytes = &ddp_memory_bytes},
  };
  return specs;
}

const TechniqueSpec* find_technique(const std::string& name) {
  for (const TechniqueSpec& spec : technique_specs()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

std::vector<Configuration> configurations_of(const Job& job, const DeviceGroup& devices) {
  std::vector<int> widths = job.devices;
  if (widths.empty()) {
    for (int count = 1; count <= devices.num_devices; ++count) widths.push_back(count);
  }
  std::sort(widths.begin(), widths.end());
  std::vector<Configuration> all;
  for (const TechniqueSpec& spec : technique_specs()) {
    if (!allows(job.techniques, spec.name)) continue;
    for (const int width : widths) {
      if (width > devices.num_devices) continue;
      DeviceGroup part = devices;
      part.num_devices = width;
      if (spec.refusal(job, part)) continue;
      for (Configuration& one : spec.candidates(job, part)) all.push_back(std::move(one));
    }
  }
  return all;
}

std::string to_text(const Configuration& configuration) {
  std::string text = configuration.technique + " x" + std::to_string(configuration.num_devices);
  std::string knobs;
  for (const auto& [key, value] : configuration.knobs.items()) {
    knobs += (knobs.empty() ? "" : ", ") + key + " " +
             (value.is_string() ? value.get<std::string>() : to_line(value));
  }
  return knobs.empty() ? text : text + " (" + knobs + ")";
}

Json to_json(const Configuration& configuration) {
  return {{"technique", configuration.technique},
          {"num_devices", configuration.num_devices},
          {"num_ranks", configuration.num_ranks},
          {"device_class", configuration.device_class},
          {"knobs", configuration.knobs}};
}

Configuration configuration_from_json(JsonReader reader) {
  Configuration configuration;
  configuration.technique = reader.string("technique");
  configuration.num_devices = static_cast<int>(reader.integer("num_devices"));
  configuration.num_ranks = static_cast<int>(reader.integer("num_ranks"));
  configuration.device_class = reader.string("device_class");
  configuration.knobs = reader.object("knobs");
  reader.finish();
  return configuration;
}

}  // namespace saturn::batch
