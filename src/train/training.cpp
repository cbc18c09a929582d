// Building a job on this rank, one step of it, validation and checkpoints.

#include "training.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "copy_tokenizer.h"
#include "failure.h"
#include "first_rank.h"
#include "saturn/base/check.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/samples.h"
#include "saturn/text/tokenizer.h"
#include "saturn/train/gpu.h"
#include "saturn/train/memory.h"
#include "saturn/train/schedule.h"
#include "saturn/train/technique_library.h"

namespace saturn::train {

using worker::ErrorClass;

namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Leaves parameters as they are allocated: a checkpoint follows.
class NoWeights final : public WeightSource {
 public:
  Result<void> read(const Parameter&, std::int64_t, at::Tensor) override { return {}; }
};

batch::Configuration read_configuration(const Json& json) {
  Diagnostics faults;
  batch::Configuration configuration =
      batch::configuration_from_json(JsonReader(json, "assign", "/configuration", faults));
  if (!faults.empty()) require(Result<void>(faults), ErrorClass::bad_configuration);
  return configuration;
}

/// Of this library, or of one that the job's batch names.
TechniqueEntry find_entry(const std::string& name, const batch::Job& job) {
  std::vector<std::string> names;
  for (const TechniqueEntry& entry : technique_entries()) {
    if (name == entry.name) return entry;
    names.emplace_back(entry.name);
  }
  for (const batch::TechniqueLibrary& library : job.libraries) {
    if (library.name == name)
      return require(open_technique_library(library.path), ErrorClass::bad_configuration).trains;
    names.push_back(library.name);
  }
  throw Failure(ErrorClass::unsupported,
                "this training library has no technique " + in_quotes(name) + ", only " + listed(names));
}

/// Compute threads and the memory limit, before the first tensor.
c10::Device take_device(const worker::Assign& assign) {
  at::set_num_threads(std::max(1, assign.threads));
  at::set_num_interop_threads(1);
  keep_freed_memory();
  const bool on_gpu = !assign.devices.empty() && assign.devices.front().kind == "gpu";
  count_cpu_memory(on_gpu ? 0 : assign.memory_limit_bytes);
  if (!on_gpu) return c10::Device(c10::kCPU);
  if (!gpu::is_built()) {
    throw Failure(ErrorClass::unsupported,
                  "this build trains on CPU slots only; build with SATURN_CUDA for GPUs");
  }
  return gpu::take(assign.memory_limit_bytes);
}

/// Ranks that share a GPU cannot use NCCL with each other.
bool use_nccl(const worker::Assign& assign, c10::Device device) {
  return device.is_cuda() && assign.devices.front().num_shares == 1;
}

}  // namespace

Training::Training(const worker::Assign& assign)
    : job_(require(batch::job_from_json(assign.job, "assign#/job"), ErrorClass::bad_configuration)),
      source_(
          require(batch::data_source_from_json(assign.data, "assign#/data"), ErrorClass::bad_configuration)),
      configuration_(read_configuration(assign.configuration)),
      configuration_json_(assign.configuration),
      device_(take_device(assign)),
      long_timeout_s_(assign.rendezvous.timeout_s) {
  communicator_ = require(Communicator::connect({.host = assign.rendezvous.host,
                                                 .port = assign.rendezvous.port,
                                                 .listen_fd = assign.rendezvous.listen_fd,
                                                 .key = assign.rendezvous.key,
                                                 .rank = assign.rank,
                                                 .num_ranks = assign.num_ranks,
                                                 .timeout_s = assign.rendezvous.timeout_s,
                                                 .nccl = use_nccl(assign, device_)}),
                          ErrorClass::internal);
  dataset_ = require(data::open_dataset(source_, job_.model.vocabulary, std::max(1, assign.threads)),
                     ErrorClass::data);
  const std::int64_t num_samples = dataset_->num_samples(data::Part::training);
  if (num_samples == 0) throw Failure(ErrorClass::data, "there is no training sample");
  order_.emplace(job_.seed, num_samples, job_.batch_size);
  num_steps_ = batch::steps_of(job_, source_, num_samples);
  progress_.seed = job_.seed;
  make_technique(assign);
  if (!assign.resume_from.empty()) load(assign.resume_from);
  begin_loading();
}

void Training::make_technique(const worker::Assign& assign) {
  auto model = require(make_model(job_.model, {.vocabulary = source_.vocabulary_size,
                                               .sequence_length = source_.sequence_length,
                                               .dropout = job_.dropout,
                                               .label_smoothing = job_.label_smoothing,
                                               .images = reads_images() ? &source_.images : nullptr}),
                       ErrorClass::bad_configuration);
  require(fine_tune(*model, job_), ErrorClass::bad_configuration);
  std::unique_ptr<WeightSource> weights = std::make_unique<RandomWeights>(job_.seed);
  if (!assign.resume_from.empty())
    weights = std::make_unique<NoWeights>();
  else if (!job_.model.directory.empty())
    weights = require(open_weights(*model, job_.model.directory,
                                   job_.new_head ? std::make_unique<RandomWeights>(job_.seed) : nullptr),
                      ErrorClass::data);
  if (assign.resume_from.empty())
    weights = require(with_adapters(*model, job_, std::move(weights)), ErrorClass::data);

  const data::Samples example = require(dataset_->read(data::Part::training, {0}), ErrorClass::data);
  technique_ = find_entry(configuration_.technique, job_)
                   .make({.job = job_,
                          .configuration = configuration_,
                          .model = std::move(model),
                          .communicator = *communicator_,
                          .device = device_,
                          .directory = assign.job_directory,
                          .example = example});
  require(technique_->prepare(*weights), ErrorClass::data);
  saver_ = std::make_unique<Saver>(*technique_, *communicator_);
}

void Training::begin_loading() {
  loader_.reset();  // the old one reads no further
  loader_ = std::make_unique<data::Loader>(
      *dataset_, *order_, [this](std::int64_t num_rows) { return technique_->micro_batches_of(num_rows); },
      progress_.step);
}

void Training::shut_down() {
  loader_.reset();
  saver_.reset();
  technique_.reset();
  communicator_->shutdown();
}

void Training::expect_long_waits(bool expected) {
  if (step_timeout_s_ > 0.0) communicator_->set_timeout(expected ? long_timeout_s_ : step_timeout_s_);
}

StepReport Training::step(const Requests& mine, Requests& agreed) {
  const double start_s = now_s();
  const MicroBatches batches = require(loader_->next(), ErrorClass::data);
  StepReport report{.num_rows = batches.num_rows};
  report.data_time_s = now_s() - start_s;
  report.num_tokens = batches.num_rows * dataset_->tokens_per_sample();
  report.learning_rate = learning_rate(job_.optimizer, job_.schedule, progress_.step, num_steps_);
  const StepStats stats = require(technique_->step(batches, report.learning_rate), ErrorClass::internal);

  // One small collective carries the loss of every rank and the requests that rank 0 has.
  const bool first = is_first_rank();
  at::Tensor shared = at::empty({4}, at::kDouble);
  auto* values = shared.mutable_data_ptr<double>();
  values[0] = stats.loss_sum;
  values[1] = first && mine.save ? 1.0 : 0.0;
  values[2] = first && mine.end ? 1.0 : 0.0;
  values[3] = first ? static_cast<double>(mine.stop_at_step) : 0.0;
  if (device_.is_cuda() && communicator_->num_ranks() > 1) {
    at::Tensor on_device = shared.to(device_);
    communicator_->sum(on_device);
    shared.copy_(on_device);
  } else {
    communicator_->sum(shared);
  }
  technique_->synchronize();
  report.step_time_s = now_s() - start_s;
  stepped_s_ += report.step_time_s;
  waited_s_ += report.data_time_s;
  report.loss = values[0] / static_cast<double>(batches.num_targets);
  report.gradient_norm = stats.gradient_norm;
  agreed = {
      .save = values[1] > 0.0, .end = values[2] > 0.0, .stop_at_step = static_cast<std::int64_t>(values[3])};

  // A loss that is not finite has gradients that are not, unless no target depends on it.
  report.finite = stats.applied && std::isfinite(report.loss);
  ++progress_.step;
  progress_.epoch = order_->epoch_of(progress_.step);
  progress_.step_of_epoch = progress_.step % order_->steps_per_epoch();
  if (step_timeout_s_ == 0.0) {
    step_timeout_s_ = std::min(long_timeout_s_, std::max(60.0, 20.0 * report.step_time_s));
    expect_long_waits(false);
  }
  return report;
}

std::int64_t Training::num_validation_batches() const {
  return data::num_validation_batches(*dataset_, job_.batch_size);
}

std::int64_t Training::number_of_first_rank(std::int64_t mine) {
  return of_first_rank(mine, *communicator_);
}

std::optional<Validated> Training::evaluate(std::int64_t max_batches) {
  std::int64_t num_batches = num_validation_batches();
  if (max_batches > 0) num_batches = std::min(num_batches, max_batches);
  if (num_batches == 0) return std::nullopt;
  const auto share = [this](std::int64_t num_rows) { return technique_->micro_batches_of(num_rows); };
  EvaluationSums sums;
  for (std::int64_t i = 0; i < num_batches; ++i) {
    const MicroBatches batches =
        require(data::read_validation(*dataset_, job_.batch_size, share, i), ErrorClass::data);
    const EvaluationSums part = require(technique_->evaluate(batches), ErrorClass::internal);
    sums.loss_sum += part.loss_sum;
    sums.num_targets += part.num_targets;
    sums.tally.num_samples += part.tally.num_samples;
    sums.tally.num_right += part.tally.num_right;
    sums.tally.num_right_in_5 += part.tally.num_right_in_5;
  }
  expect_long_waits(true);
  at::Tensor shared = at::empty({5}, at::kDouble);
  auto* values = shared.mutable_data_ptr<double>();
  values[0] = sums.loss_sum;
  values[1] = static_cast<double>(sums.num_targets);
  values[2] = static_cast<double>(sums.tally.num_samples);
  values[3] = static_cast<double>(sums.tally.num_right);
  values[4] = static_cast<double>(sums.tally.num_right_in_5);
  if (device_.is_cuda()) shared = shared.to(device_);
  communicator_->sum(shared);
  expect_long_waits(false);
  shared = shared.cpu();
  const double loss = shared[0].item<double>() / shared[1].item<double>();
  Validated validated{.loss = loss, .accuracy = {}, .accuracy_top5 = {}};
  if (const double count = shared[2].item<double>(); count > 0.0) {
    validated.accuracy = shared[3].item<double>() / count;
    validated.accuracy_top5 = shared[4].item<double>() / count;
  }
  if (max_batches > 0) return validated;  // of a part: nothing to compare with
  if (progress_.best_validation_loss == 0.0 || loss < progress_.best_validation_loss)
    progress_.best_validation_loss = loss;
  progress_.validation = checkpoint::Validation{.step = progress_.step, .loss = loss};
  return validated;
}

double Training::baseline_loss() const {
  return require(dataset_->baseline_loss(), ErrorClass::data);
}

Result<void> Training::begin_save(const std::string& directory, int keep) {
  expect_long_waits(true);
  Result<void> begun = saver_->begin(
      {.directory = directory, .progress = progress_, .written_by = configuration_json_, .keep = keep});
  expect_long_waits(false);
  return begun;
}

void Training::save(const std::string& directory, int keep) {
  expect_long_waits(true);
  const Result<void> saved = saver_->save(
      {.directory = directory, .progress = progress_, .written_by = configuration_json_, .keep = keep});
  const bool poisoned = !saved.ok() && saved.faults().front().kind == Kind::job_failed;
  require(saved, poisoned ? ErrorClass::numerical : ErrorClass::internal);
  expect_long_waits(false);
}

void Training::wait_for_save() {
  expect_long_waits(true);
  saver_->wait();
  communicator_->barrier();
  expect_long_waits(false);
}

void Training::load(const std::string& directory) {
  const bool again = loader_ != nullptr;
  loader_.reset();
  saver_->wait();
  LoadedCheckpoint loaded =
      require(load_newest_checkpoint(directory, *technique_, *communicator_), ErrorClass::data);
  progress_ = loaded.progress;
  passed_over_ = std::move(loaded.passed_over);
  if (progress_.seed != job_.seed)
    throw Failure(ErrorClass::bad_configuration, "the checkpoint " + loaded.directory + " is of seed " +
                                                     std::to_string(progress_.seed) + ", the job of seed " +
                                                     std::to_string(job_.seed));
  if (again) begin_loading();
}

void Training::write_model(const std::string& directory) {
  expect_long_waits(true);
  // Every weight is gathered once, by all ranks in one order; one that cannot write goes on taking part.
  const std::size_t num_weights =
      technique_->model().parameters().size() + technique_->model().buffers().size();
  std::size_t next = 0;
  Result<void> written;
  if (is_first_rank()) {
    written = write_weights(
        technique_->model(),
        [&](std::size_t index) {
          SATURN_CHECK(index == next, "weights are written in the order in which they are gathered");
          return technique_->gather_weight(next++);
        },
        directory, std::filesystem::path(directory).replace_filename("adapter").string());
    // The tokenizer of the data, or of the model that was fine-tuned on tokens.
    const std::string& start = job_.model.directory;
    std::string tokenizer = source_.tokenizer == "bytes" ? "" : source_.tokenizer;
    if (tokenizer.empty() && !start.empty() && text::tokenizer_files(start).ok()) tokenizer = start;
    if (written.ok() && !tokenizer.empty()) written = copy_tokenizer(tokenizer, directory);
  }
  while (next < num_weights) (void)technique_->gather_weight(next++);
  require(written, ErrorClass::internal);
  expect_long_waits(false);
}

std::int64_t Training::memory_peak_bytes() const {
  return device_memory(device_).peak_bytes;
}

}  // namespace saturn::train
