// A stored classifier over labelled images.
//
// Shapes: S images, V classes.

#include "evaluate_images.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <thread>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/image_index.h"
#include "saturn/data/dataset.h"

namespace saturn::train {
namespace {

constexpr std::int64_t kImagesAtOnce = 32;
constexpr std::int64_t kMostImagesOfLogits = 64;

/// Numbers of `key` in config.json's `pretrained_cfg`, where they are as many as channels.
std::vector<double> numbers_of(const Json& preparation, const char* key, int channels) {
  const auto it = preparation.find(key);
  std::vector<double> numbers;
  if (it == preparation.end() || !it->is_array()) return numbers;
  for (const Json& one : *it)
    if (one.is_number()) numbers.push_back(one.get<double>());
  if (numbers.size() != static_cast<std::size_t>(channels)) numbers.clear();
  return numbers;
}

/// How the model's images are made ready, as its config.json says where it does.
Result<batch::ImageSettings> settings_of(const worker::EvaluateRequest& request,
                                         const batch::ModelSpec& spec) {
  const std::string path = join_path(spec.directory, "config.json");
  SATURN_TRY(const std::string content, read_whole(path, std::uint64_t{16} << 20));
  SATURN_TRY(const Json config, parse_json(content, path));
  const Json preparation = config.value("pretrained_cfg", Json::object());
  batch::ImageSettings settings;
  settings.channels = spec.channels;
  settings.size = spec.image_size;
  const auto shape = preparation.find("input_size");
  if (settings.size == 0 && shape != preparation.end() && shape->is_array() && shape->size() == 3 &&
      (*shape)[1].is_number_integer())
    settings.size = std::clamp((*shape)[1].get<int>(), 1, 1 << 14);
  if (settings.size == 0) settings.size = 224;
  const auto share = preparation.find("crop_pct");
  if (request.resize != 0)
    settings.resize = static_cast<int>(std::clamp<std::int64_t>(request.resize, settings.size, 1 << 15));
  else if (share != preparation.end() && share->is_number() && share->get<double>() > 0.01)
    settings.resize =
        std::max(settings.size, static_cast<int>(std::floor(settings.size / share->get<double>())));
  if (preparation.value("interpolation", Json()) == Json("bicubic")) settings.interpolation = "bicubic";
  settings.mean = numbers_of(preparation, "mean", spec.channels);
  settings.deviation = numbers_of(preparation, "std", spec.channels);
  if (settings.mean.empty()) settings.mean.assign(static_cast<std::size_t>(spec.channels), 0.5);
  if (settings.deviation.empty()) settings.deviation.assign(static_cast<std::size_t>(spec.channels), 0.5);
  if (const auto names = config.find("label_names"); names != config.end() && names->is_array())
    for (const Json& name : *names)
      if (name.is_string()) settings.classes.push_back(name.get<std::string>());
  return settings;
}

}  // namespace

Result<worker::Evaluation> evaluate_images(const worker::EvaluateRequest& request,
                                           const batch::ModelSpec& spec) {
  batch::DataSource source{.name = "images", .kind = batch::DataKind::images};
  const std::string path = std::filesystem::absolute(request.images).lexically_normal().string();
  source.validation_files = {path};
  source.validation_share = 0.0;
  SATURN_TRY(source.images, settings_of(request, spec));
  SATURN_TRY_VOID(batch::index_images(source));
  if (source.vocabulary_size > spec.vocabulary)
    return Diagnostic{.where = path,
                      .what = "there are " + std::to_string(source.vocabulary_size) + " classes",
                      .expected = "at most the model's " + std::to_string(spec.vocabulary)};
  const int num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  SATURN_TRY(const std::unique_ptr<data::Dataset> images,
             data::open_dataset(source, spec.vocabulary, num_threads));
  SATURN_TRY(const std::unique_ptr<Model> model, open_stored_model(spec));

  const std::int64_t count = images->num_samples(data::Part::validation);
  Tally tally;
  double loss_sum = 0.0;
  std::vector<at::Tensor> logits;
  for (std::int64_t first = 0; first < count; first += kImagesAtOnce) {
    std::vector<std::int64_t> samples(static_cast<std::size_t>(std::min(kImagesAtOnce, count - first)));
    std::iota(samples.begin(), samples.end(), first);
    SATURN_TRY(const data::Samples read, images->read(data::Part::validation, samples));
    const StepContext context{.training = false, .tally = &tally};
    loss_sum += loss(*model, read.inputs, read.targets, context).item<double>();
    if (!request.logits.empty() && first < kMostImagesOfLogits)
      logits.push_back(outputs(*model, read.inputs, context));
  }
  if (!request.logits.empty()) {
    const at::Tensor all_SV = at::cat(logits, 0);
    SATURN_TRY_VOID(write_logits(all_SV.narrow(0, 0, std::min(kMostImagesOfLogits, count)), request.logits));
  }
  SATURN_TRY(const double mean, mean_loss(loss_sum, count, spec));
  return worker::Evaluation{
      .loss = mean,
      .perplexity = std::exp(mean),
      .accuracy = static_cast<double>(tally.num_right) / static_cast<double>(count),
      .accuracy_top5 = static_cast<double>(tally.num_right_in_5) / static_cast<double>(count),
      .count = count};
}

}  // namespace saturn::train
