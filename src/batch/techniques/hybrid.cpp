// Data x pipeline x tensor over one mesh of devices: at least two of the three.

#include <algorithm>
#include <tuple>

#include "batch/techniques/stages.h"

namespace saturn::batch::techniques {
namespace {

constexpr std::size_t kMostCandidates = 12;

struct Factors {
  int data = 1;
  int pipeline = 1;
  int tensor = 1;
};

/// Every way to write `num_ranks` as three factors, at least two of them above one.
std::vector<Factors> factorizations(int num_ranks) {
  std::vector<Factors> all;
  for (int data = 1; data <= num_ranks; ++data) {
    if (num_ranks % data != 0) continue;
    for (int pipeline = 1; pipeline <= num_ranks / data; ++pipeline) {
      if (num_ranks / data % pipeline != 0) continue;
      const int tensor = num_ranks / data / pipeline;
      if ((data > 1) + (pipeline > 1) + (tensor > 1) >= 2) all.push_back({data, pipeline, tensor});
    }
  }
  return all;
}

bool can_be(const Job& job, const Factors& factors) {
  if (factors.pipeline > 1 && stages_refusal(job.model, factors.pipeline)) return false;
  if (factors.tensor > 1 && (job.model.num_heads == 0 || head_split_refusal(job.model, factors.tensor)))
    return false;
  return job.batch_size >= factors.data * (factors.pipeline > 1 ? 2 : 1);
}

std::vector<Factors> factorizations_of(const Job& job, int num_ranks) {
  std::vector<Factors> all = factorizations(num_ranks);
  std::erase_if(all, [&](const Factors& factors) { return !can_be(job, factors); });
  return all;
}

std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  if (auto why = several_ranks_refusal(devices)) return why;
  const int num_ranks = num_whole_devices(devices);
  if (factorizations(num_ranks).empty())
    return "needs a number of devices with two factors, and " + std::to_string(num_ranks) + " has none";
  if (factorizations_of(job, num_ranks).empty())
    return "no factors of " + std::to_string(num_ranks) +
           " devices suit the model's heads and layers and the rows of a batch";
  return std::nullopt;
}

/// A knob at its default is left out.
Json knobs_of(const Factors& factors, int micro_batches) {
  Json knobs = Json::object();
  if (factors.data > 1) knobs["data"] = factors.data;
  if (factors.pipeline > 1) knobs["pipeline"] = factors.pipeline;
  if (factors.tensor > 1) knobs["tensor"] = factors.tensor;
  if (micro_batches > 1) knobs["micro_batches"] = micro_batches;
  return knobs;
}

// Every factorization with its best knobs, then with the best of those that shard the data dimension, then
// with the others; each of the three by predicted time. What should not fit is left out where something
// should.
std::vector<Configuration> candidates(const Job& job, const DeviceGroup& devices) {
  // The data is not known here; the order hardly depends on the length of its sequences.
  DataSource data;
  data.sequence_length = job.model.longest_sequence;
  const int num_ranks = num_whole_devices(devices);
  enum class Turn { best, best_sharded, other };
  struct Candidate {
    Configuration configuration;
    double time_s = 0.0;
    bool fits = true;
    Turn turn = Turn::other;
  };
  std::vector<Candidate> all;
  for (const Factors& factors : factorizations_of(job, num_ranks)) {
    for (const bool sharded : {false, true}) {
      if (sharded && factors.data == 1) continue;
      std::vector<Candidate> of_factors;
      const int rows = job.batch_size / factors.data;
      for (const int count : micro_batch_counts(factors.pipeline, rows)) {
        Json knobs = knobs_of(factors, std::min(std::max(count, job.micro_batches), rows));
        if (sharded) knobs["sharded"] = true;
        Candidate one{.configuration = configuration("hybrid", devices, num_ranks, std::move(knobs))};
        one.time_s = stages_step_time_s(job, data, one.configuration);
        one.fits = devices.memory_bytes == 0 ||
                   stages_memory_bytes(job, data, one.configuration) <= devices.memory_bytes;
        of_factors.push_back(std::move(one));
      }
      const auto best =
          std::min_element(of_factors.begin(), of_factors.end(), [](const Candidate& a, const Candidate& b) {
            return a.fits != b.fits ? a.fits : a.time_s < b.time_s;
          });
      best->turn = sharded ? Turn::best_sharded : Turn::best;
      for (Candidate& one : of_factors) all.push_back(std::move(one));
    }
  }
  const bool some_fit = std::any_of(all.begin(), all.end(), [](const Candidate& one) { return one.fits; });
  if (some_fit) std::erase_if(all, [](const Candidate& one) { return !one.fits; });
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.turn, a.time_s) < std::tie(b.turn, b.time_s);
  });
  if (all.size() > kMostCandidates) all.resize(kMostCandidates);
  std::vector<Configuration> plain;
  for (Candidate& one : all) plain.push_back(std::move(one.configuration));
  return with_checkpointing(std::move(plain));
}

}  // namespace

TechniqueSpec hybrid() {
  return {.name = "hybrid",
          .summary = "data x pipeline x tensor over one mesh of devices",
          .applies_to = "four or more GPUs or CPU slots whose number has two factors, one process each",
          .splits_batch = false,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &stages_memory_bytes,
          .predicted_step_time_s = &stages_step_time_s};
}

}  // namespace saturn::batch::techniques
