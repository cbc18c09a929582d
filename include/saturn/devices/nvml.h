// GPUs as NVIDIA's management library sees them: asked without creating a CUDA context.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "saturn/devices/machine.h"

namespace saturn::devices {

/// True where the driver has left its device nodes. Looks at names only, opens nothing.
bool has_nvidia_driver();

/// Loads libnvidia-ml and lists the GPUs that CUDA_VISIBLE_DEVICES leaves visible. For a probe process: the
/// driver may take its time, or hang. `cuda_build`: this build can train on them.
GpuReport list_gpus(bool cuda_build);

/// `gpus` as CUDA_VISIBLE_DEVICES = `visible` (nothing: not set) orders and limits them; as in CUDA, what
/// stands behind a name that matches none is not visible.
std::vector<Gpu> visible_gpus(const std::vector<Gpu>& gpus, const std::optional<std::string>& visible);

}  // namespace saturn::devices
