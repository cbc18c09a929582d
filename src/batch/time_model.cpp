// The time formulae.

#include "saturn/batch/time_model.h"

namespace saturn::batch {

// CPU slots: a thread of the cores this was written on sustains about 20 GFLOP/s in fp32 training, Gloo over
// loopback about 1 GB/s a rank, and the page cache behind a mapped file about 2 GB/s. GPUs: a data-centre GPU
// of the 2020s sustains about 40 % of its dense bf16 peak (400 TFLOP/s; a tenth of that in fp32), over NVLink
// about 200 GB/s in a collective, over PCIe about 25 GB/s.
Rates rates_of(const std::string& device_class, const std::string& precision) {
  if (device_class == "cpu")
    return {.flops = 2e10, .link_bytes = 1e9, .host_bytes = 2e9, .collective_s = 1e-4};
  return {.flops = precision == "fp32" ? 4e13 : 4e14,
          .link_bytes = 2e11,
          .host_bytes = 2.5e10,
          .collective_s = 2e-5};
}

// A third of the work is forward, which a checkpointed block does twice.
double compute_time_s(const Job& job, const DataSource& data, Checkpointing checkpointing, const Rates& rates,
                      int num_devices) {
  const double again = checkpointing == Checkpointing::none        ? 1.0
                       : checkpointing == Checkpointing::selective ? 7.0 / 6.0
                                                                   : 4.0 / 3.0;
  return again * job.batch_size * flops_per_sample(job.model, data) / (rates.flops * num_devices);
}

double collective_time_s(double bytes, int num_ranks, const Rates& rates) {
  if (num_ranks < 2) return 0.0;
  return rates.collective_s + bytes * (num_ranks - 1) / num_ranks / rates.link_bytes;
}

}  // namespace saturn::batch
