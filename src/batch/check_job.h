// What can be wrong with a job whose keys are each right.

#pragma once

#include "batch/faults.h"
#include "batch/read_data.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {

/// Batch against data, devices and micro-batches; sequence and vocabulary against the model; schedule against
/// the amount. `data` is null where its source was faulty, `model_known` false where the model was.
void check_job(const Job& job, const ReadData* data, bool model_known, Faults& faults);

/// Techniques that do not exist, and device counts or techniques written twice.
void check_choices(const Job& job, const std::vector<TechniqueLibrary>& libraries, Faults& faults);

}  // namespace saturn::batch
