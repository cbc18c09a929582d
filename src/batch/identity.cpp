// Speed class and result digest.

#include "saturn/batch/identity.h"

#include <algorithm>
#include <filesystem>

#include "batch/file_facts.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/version.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/batch/image_index.h"

namespace saturn::batch {
namespace {

Result<Json> digests_of(const std::vector<std::string>& files) {
  Json digests = Json::array();
  for (const std::string& file : files) {
    SATURN_TRY(std::string digest, remembered_digest(file));
    digests.push_back(std::move(digest));
  }
  return digests;
}

// Contents of the safetensors files a model starts from, by name.
Result<Json> weights_digest(const ModelSpec& model) {
  Json digests = Json::object();
  if (model.directory.empty()) return digests;
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(model.directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) files.push_back(name);
  }
  if (error) return system_fault(model.directory, "list", error.value());
  std::sort(files.begin(), files.end());
  for (const std::string& name : files) {
    SATURN_TRY(digests[name], remembered_digest(join_path(model.directory, name)));
  }
  return digests;
}

}  // namespace

std::string speed_class(const Job& job, const DataSource& data) {
  Json what = {{"family", job.model.family},
               {"sizes", job.model.sizes},
               {"data", name_of(data.kind)},
               {"sequence_length", data.sequence_length},
               {"batch_size", job.batch_size},
               {"micro_batches", job.micro_batches},
               {"precision", job.precision},
               {"dropout", job.dropout > 0},
               {"optimizer", job.optimizer.kind},
               {"momentum", job.optimizer.momentum > 0},
               {"clipping", job.optimizer.clip_norm > 0}};
  if (job.gradient_precision != "fp32") what["gradient_precision"] = job.gradient_precision;
  if (data.kind == DataKind::images)
    what["images"] = {data.images.size, data.images.channels, data.images.flip};
  if (!job.freeze.empty()) what["freeze"] = job.freeze;
  if (job.lora) what["lora"] = {job.lora->rank, job.lora->targets};
  // A library that was built again may run at another speed.
  for (const TechniqueLibrary& library : job.libraries) what["libraries"][library.name] = library.digest;
  std::string readable = job.model.name;
  for (char& c : readable) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
    if (!plain) c = '-';
  }
  const int length = data.kind == DataKind::images ? data.images.size : data.sequence_length;
  return readable + "-s" + std::to_string(length) + "-b" + std::to_string(job.batch_size) + "-" +
         job.precision + "-" + digest_of(to_line(what)).substr(0, 8);
}

Result<std::string> data_digest(const DataSource& data) {
  if (data.kind == DataKind::images) {
    SATURN_TRY(std::string content, digest_of_images(data));
    Json what = to_json(data);
    for (const char* key : {"name", "files", "validation_files"}) what.erase(key);
    what["content"] = std::move(content);
    return digest_of(to_line(what));
  }
  SATURN_TRY(Json files, digests_of(data.files));
  SATURN_TRY(Json validation, digests_of(data.validation_files));
  const Json what = {{"kind", name_of(data.kind)},
                     {"sequence_length", data.sequence_length},
                     {"vocabulary_size", data.vocabulary_size},
                     {"validation_share", data.validation_share},
                     {"files", std::move(files)},
                     {"validation_files", std::move(validation)}};
  return digest_of(to_line(what));
}

Result<std::string> result_digest(const Job& job, const DataSource& data) {
  SATURN_TRY(std::string data_content, data_digest(data));
  SATURN_TRY(Json weights, weights_digest(job.model));
  Json what = to_json(job);
  // Not part of the result: what it is called, where its files are, and how it may be run.
  for (const char* key : {"name", "data", "techniques", "devices", "libraries"}) what.erase(key);
  what["model"] = {{"family", job.model.family}, {"sizes", job.model.sizes}};
  what["data_digest"] = std::move(data_content);
  what["weights"] = std::move(weights);
  if (job.lora && !job.lora->start.empty()) {
    what["lora"].erase("start");
    SATURN_TRY(what["adapter"], remembered_digest(join_path(job.lora->start, kAdapterFile)));
  }
  what["training_version"] = kTrainingVersion;
  return digest_of(to_line(what));
}

}  // namespace saturn::batch
