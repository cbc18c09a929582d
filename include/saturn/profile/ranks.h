// How the devices of a job are dealt to its ranks: the same for a trial and for the run.

#pragma once

#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/devices/machine.h"
#include "saturn/worker/messages.h"

namespace saturn::profile {

/// One Assign for every rank of `configuration` on `devices` (num_devices of `node`, in order): rank i owns
/// the i-th num_devices / num_ranks of them, with their cores, threads and memory together. Mode, steps,
/// directories and checkpoints are left to the caller.
std::vector<worker::Assign> deal(const batch::Job& job, const batch::DataSource& data,
                                 const batch::Configuration& configuration, const std::string& node,
                                 const std::vector<devices::Device>& devices);

}  // namespace saturn::profile
