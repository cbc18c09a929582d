// The [devices] table of a batch: what the user asks of this machine, before anything is detected.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/source_position.h"

namespace saturn::devices {

/// One [[devices.node]]: a node described by hand instead of detected.
struct NodeRequest {
  std::string name;
  std::string device_class;       ///< "cpu", or a GPU class such as "a100"
  int count = 0;                  ///< devices of the node
  std::int64_t memory_bytes = 0;  ///< of one device; 0 = no limit stated
  SourcePosition position;        ///< of the table
};

/// Absent members were not written. Each written member has the position of its value beside it.
struct DevicesRequest {
  std::optional<int> cpu_slots;
  std::optional<int> threads_per_slot;
  bool oversubscribe = false;  ///< more slot threads than cores is good
  std::optional<std::int64_t> memory_per_slot_bytes;
  int gpu_share = 1;               ///< devices made of one GPU
  bool use_busy_gpus = false;      ///< take GPUs on which other programs compute too
  std::vector<NodeRequest> nodes;  ///< empty = detect

  SourcePosition position;  ///< of the table; unknown where the batch has none
  SourcePosition cpu_slots_position;
  SourcePosition threads_per_slot_position;
  SourcePosition memory_per_slot_position;
  SourcePosition gpu_share_position;
};

}  // namespace saturn::devices
