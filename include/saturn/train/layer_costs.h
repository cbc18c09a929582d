// What each layer of a model costs on this device, measured before the model is placed.

#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "saturn/batch/pipeline_balance.h"
#include "saturn/data/dataset.h"
#include "saturn/train/model.h"

namespace saturn::batch {
struct Job;
}

namespace saturn::train {

/// Runs the layers one after the other over `num_rows` copies of `example`, forward and backward, with only
/// one layer's parameters in memory at a time; the model is left unplaced as before. Layers of the same kind
/// and sizes are measured once and cost the same to the bit: equal blocks are not told apart by noise.
///
/// `time_s` is a median of several runs; `send_s` of an output and its gradient is what the job's precision
/// and the rates of batch/time_model.h make of their size; `kept_bytes` is counted by the device's allocator.
std::vector<batch::LayerCost> measure_layers(Model& model, const batch::Job& job,
                                             const data::Samples& example, std::int64_t num_rows,
                                             c10::Device device);

/// Bytes that one rank may use: the slot's limit, or most of the GPU's memory; 0 where nothing bounds them.
std::int64_t memory_limit_bytes(c10::Device device);

}  // namespace saturn::train
