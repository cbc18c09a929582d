// Labelled images of folders and shards, decoded when they are asked for.

#pragma once

#include <memory>

#include "saturn/data/dataset.h"

namespace saturn::data {

Result<std::unique_ptr<Dataset>> open_images(const batch::DataSource& source, int num_threads);

}  // namespace saturn::data
