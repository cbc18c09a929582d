// A batch against the devices there are.

#pragma once

#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/devices/machine.h"

namespace saturn::batch {

/// The nodes of a machine as groups of equal devices.
std::vector<DeviceGroup> device_groups(const devices::Machine& machine);

/// Every device count a job asks for exists somewhere, and every job can run in at least one configuration.
///
/// Errors: each count and each job that cannot, at its line.
Result<void> check_devices(const Batch& batch, const std::vector<DeviceGroup>& groups);

}  // namespace saturn::batch
