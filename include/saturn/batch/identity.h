// A job's keys besides its name (DESIGN: identity): the speed class shares trials, the result digest decides
// what must run again.

#pragma once

#include <string>

#include "saturn/batch/batch.h"

namespace saturn::batch {

/// Everything that can change step time or memory, and nothing else: jobs that differ in learning rate, seed,
/// weight decay or amount of work have one class. Readable, e.g. "gpt2-toy-s128-b16-fp32-5f1c09ab".
std::string speed_class(const Job& job, const DataSource& data);

/// Digest of what the training sees: hyper-parameters, seed, amount, contents of data and initial weights,
/// training version; not devices, paths or techniques.
///
/// Errors: data or weights that cannot be read.
Result<std::string> result_digest(const Job& job, const DataSource& data);

/// Digest of the contents of a data source's files and of how they are cut. Remembered in this process by
/// (device, inode, size, modification time), and for files of 256 MiB and more across processes too.
Result<std::string> data_digest(const DataSource& data);

}  // namespace saturn::batch
