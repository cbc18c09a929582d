// How long a step should take, so that trials can be put in an order and a search knows when to stop:
// compute, what recomputing adds, and what has to be sent. Only ratios between configurations of one job are
// used.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/batch/memory_model.h"

namespace saturn::batch {

/// What one device does in a second. Round figures of a class of machines: they order trials and never enter
/// a measured number.
struct Rates {
  double flops = 0.0;         ///< sustained in training, of the job's precision
  double link_bytes = 0.0;    ///< to and from another device of the node, in a collective
  double host_bytes = 0.0;    ///< to and from the slow tier that offloading streams from
  double collective_s = 0.0;  ///< fixed cost of one collective or message
};
Rates rates_of(const std::string& device_class, const std::string& precision);

/// Forward and backward over the whole batch on `num_devices` devices that share it evenly.
double compute_time_s(const Job& job, const DataSource& data, Checkpointing checkpointing, const Rates& rates,
                      int num_devices);

/// A collective in which each of `num_ranks` ranks passes on its share of `bytes`: all-gather and
/// reduce-scatter once, an all-reduce twice.
double collective_time_s(double bytes, int num_ranks, const Rates& rates);

}  // namespace saturn::batch
