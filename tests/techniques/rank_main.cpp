// The ranks of test groups: FD. A server that has loaded LibTorch and touched nothing of it takes directories
// from the socket FD, forks a process for each rank of DIRECTORY/run.json, and answers with what they ended
// with. Rank 0 writes result.json, every rank the pieces that it holds to state.RANK; one that fails writes
// its error class and message to error.RANK.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "saturn/base/check.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/model_spec.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/data/loader.h"
#include "saturn/train/checkpoint.h"
#include "saturn/train/memory.h"
#include "saturn/train/technique.h"
#include "tests/techniques/group.h"
#include "tests/techniques/made_up.h"
#include "tests/techniques/tiny_model.h"
#include "train/failure.h"

namespace saturn::testing {
namespace {

/// What the data decide of a stored model: tokens of kVocabulary kinds, or images.
batch::ModelSpec model_of(const GroupRun& run) {
  batch::ModelSpec spec = train::require(batch::find_model(run.model, ".", {}), worker::ErrorClass::data);
  batch::DataSource data;
  data.vocabulary_size = kVocabulary;
  if (spec.reads_images) {
    data.kind = batch::DataKind::images;
    data.images.size = kImageSize;
    data.images.channels = 1;
    data.vocabulary_size = kClasses;
  }
  return with_data(std::move(spec), data, /*new_head=*/false);
}

std::unique_ptr<train::Model> make_model(const GroupRun& run, const batch::Job& job) {
  if (run.model.empty())
    return make_tiny_model({.vocabulary = kVocabulary,
                            .width = run.width,
                            .num_blocks = run.num_blocks,
                            .dropout = run.dropout});
  return train::require(
      train::make_model(job.model, {.sequence_length = run.sequence_length, .dropout = run.dropout}),
      worker::ErrorClass::internal);
}

void append(std::string& bytes, std::int64_t number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append(std::string& bytes, const std::string& prefix, const train::StateTensor& state) {
  const at::Tensor flat = state.piece.detach().contiguous().view({-1});
  const std::string name = prefix + state.role + "/" + state.name;
  append(bytes, static_cast<std::int64_t>(name.size()));
  bytes += name;
  append(bytes, static_cast<std::int64_t>(state.shape.size()));
  for (std::int64_t extent : state.shape) append(bytes, extent);
  for (std::int64_t offset : state.offsets) append(bytes, offset);
  for (std::int64_t extent : state.piece.sizes()) append(bytes, extent);
  bytes.append(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes());
}

/// The pieces of which this rank is the one that answers for them.
void append_state(std::string& bytes, const std::string& prefix, train::Technique& technique) {
  train::require(technique.for_each_state([&](const train::StateTensor& state) -> Result<void> {
    if (state.primary) append(bytes, prefix, state);
    return {};
  }),
                 worker::ErrorClass::internal);
}

/// Final weights come whole, and are those that this rank holds a part of.
void check_gathered(train::Technique& technique, bool is_first) {
  auto parameters = technique.model().parameters();
  for (const train::ParameterPtr& buffer : technique.model().buffers()) parameters.push_back(buffer);
  std::vector<std::vector<float>> whole;  // outside the limit that tensors keep
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor weight = technique.gather_weight(i);
    if (!is_first) continue;
    const at::Tensor flat = weight.contiguous();
    const float* values = flat.const_data_ptr<float>();
    whole.emplace_back(values, values + weight.numel());
  }
  if (!is_first) return;
  train::require(technique.for_each_state([&](const train::StateTensor& state) -> Result<void> {
    if (state.role != "weight" && state.role != "buffer") return {};
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (parameters[i]->name != state.name) continue;
      at::Tensor part = at::from_blob(whole[i].data(), parameters[i]->shape, at::kFloat);
      for (std::int64_t d = 0; d < part.dim(); ++d)
        part = part.narrow(d, state.offsets[static_cast<std::size_t>(d)], state.piece.size(d));
      if (!at::equal(part, state.piece))
        return Diagnostic{.what = "a gathered weight is not the one that is held"};
    }
    return {};
  }),
                 worker::ErrorClass::internal);
}

GroupRun run_of(const std::string& directory) {
  return group_run_from_json(*parse_json(*read_whole(join_path(directory, "run.json")), "run.json"));
}

void train(const std::string& directory, int rank, int port, int listen_fd) {
  using train::require;
  using worker::ErrorClass;
  at::set_num_threads(1);
  const GroupRun run = run_of(directory);
  const bool last_rank = rank == run.num_ranks - 1;
  train::count_cpu_memory(run.memory_limit_bytes);

  batch::Job job;
  job.batch_size = run.batch_size;
  job.micro_batches = run.micro_batches;
  job.precision = run.precision;
  job.dropout = run.dropout;
  job.seed = 17;
  job.optimizer = {.kind = run.optimizer,
                   .lr = run.learning_rate,
                   .weight_decay = run.optimizer == "sgd" ? 1e-3 : 0.1,
                   .momentum = run.optimizer == "sgd" ? 0.9 : 0.0,
                   .clip_norm = run.clip_norm};
  if (!run.model.empty()) job.model = model_of(run);
  job.freeze = run.freeze;
  if (run.lora_rank > 0)
    job.lora = {.rank = run.lora_rank, .alpha = 2.0 * run.lora_rank, .targets = run.lora_targets};
  const batch::Configuration configuration{
      .technique = run.technique, .num_ranks = run.num_ranks, .knobs = run.knobs};
  auto communicator = require(train::Communicator::connect({.port = port,
                                                            .listen_fd = listen_fd,
                                                            .key = "test",
                                                            .rank = rank,
                                                            .num_ranks = run.num_ranks,
                                                            .timeout_s = 60}),
                              ErrorClass::internal);
  const auto made_up = job.model.reads_images ? made_up_images(run.num_samples)
                                              : made_up_text(run.num_samples, run.sequence_length);
  const data::Dataset& dataset = *made_up;
  std::unique_ptr<train::Model> model = make_model(run, job);
  require(train::fine_tune(*model, job), ErrorClass::internal);
  std::unique_ptr<train::Technique> technique;
  for (const train::TechniqueEntry& entry : train::technique_entries())
    if (run.technique == entry.name)
      technique = entry.make({.job = job,
                              .configuration = configuration,
                              .model = std::move(model),
                              .communicator = *communicator,
                              .directory = directory,
                              .example = require(dataset.read(data::Part::training, {0}), ErrorClass::data)});
  train::RandomWeights weights(job.seed);
  require(technique->prepare(weights), ErrorClass::internal);
  std::int64_t first_step = 0;
  if (!run.resume_from.empty())
    first_step = require(train::load_checkpoint(run.resume_from, *technique), ErrorClass::data).step;
  if (run.break_gradient && last_rank) {
    // Of those that this rank has.
    std::vector<at::Tensor> values;
    for (const train::ParameterPtr& parameter : technique->model().parameters())
      if (parameter->value.defined()) values.push_back(parameter->value);
    values[std::min<std::size_t>(2, values.size() - 1)].register_hook(
        [](const at::Tensor& gradient) { return gradient * 1.01; });
  }

  const data::SampleOrder order(job.seed, run.num_samples, run.batch_size);
  const auto share = [&](std::int64_t num_rows) { return technique->micro_batches_of(num_rows); };
  Json result = {{"losses", Json::array()}, {"norms", Json::array()}};
  std::string state;
  for (std::int64_t step = first_step; step < run.num_steps; ++step) {
    if (last_rank && run.kill_rank_at_step == step) ::_exit(9);
    const auto batches = require(data::read_step(dataset, order, share, step), ErrorClass::data);
    const auto stats = require(technique->step(batches, job.optimizer.lr), ErrorClass::internal);
    at::Tensor loss = at::full({1}, stats.loss_sum, at::kDouble);
    communicator->sum(loss);
    result["losses"].push_back(loss.item<double>() / static_cast<double>(batches.num_targets));
    result["norms"].push_back(stats.gradient_norm);
    if (step == 0) append_state(state, "first_", *technique);
  }

  at::Tensor sums = at::zeros({4}, at::kDouble);
  for (std::int64_t i = 0; i < data::num_validation_batches(dataset, run.batch_size); ++i) {
    const auto batches = require(data::read_validation(dataset, run.batch_size, share, i), ErrorClass::data);
    const auto part = require(technique->evaluate(batches), ErrorClass::internal);
    sums[0] += part.loss_sum;
    sums[1] += static_cast<double>(part.num_targets);
    sums[2] += static_cast<double>(part.tally.num_samples);
    sums[3] += static_cast<double>(part.tally.num_right);
  }
  communicator->sum(sums);
  result["validation_loss"] = (sums[0] / sums[1]).item<double>();
  result["num_right"] = sums[3].item<double>();
  if (std::abs(sums[1].item<double>() -
               static_cast<double>(kValidationSamples * dataset.targets_per_sample())) > 0.5)
    throw train::Failure(ErrorClass::internal, "validation did not count every target once");
  if (sums[2].item<double>() != (job.model.reads_images ? kValidationSamples : 0))
    throw train::Failure(ErrorClass::internal, "validation did not tally every image once");

  if (!run.save_to.empty())
    require(train::save_checkpoint(run.save_to, {.step = run.num_steps, .seed = job.seed}, Json::object(),
                                   *technique, *communicator),
            ErrorClass::internal);
  append_state(state, "", *technique);
  require(write_whole(join_path(directory, "state." + std::to_string(rank)), state), ErrorClass::internal);
  if (rank == 0) {
    require(write_whole(join_path(directory, "result.json"), to_text(result)), ErrorClass::internal);
  }
  const Json words = {{"memory_peak_bytes", train::cpu_memory().peak_bytes},
                      {"memory_held_bytes", train::cpu_memory().now_bytes},
                      {"knobs", technique->tuned_knobs()},
                      {"measured", technique->measured()}};
  require(write_whole(join_path(directory, "rank." + std::to_string(rank)), to_text(words)),
          ErrorClass::internal);
  check_gathered(*technique, rank == 0);
  technique.reset();
  communicator->shutdown();
}

/// The whole life of a rank's process.
[[noreturn]] void be_rank(const std::string& directory, int rank, int port, int listen_fd) {
  try {
    train(directory, rank, port, listen_fd);
  } catch (...) {
    const auto error = train::classify(std::current_exception());
    (void)write_whole(join_path(directory, "error." + std::to_string(rank)),
                      to_string(error.error_class) + ": " + error.message);
    ::_exit(1);
  }
  ::_exit(0);
}

/// A loopback socket that listens, as the launcher gives to rank 0, and its port.
struct Listening {
  FileDescriptor fd;
  int port = 0;
};

Listening listen_on_loopback() {
  Listening listening{FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  SATURN_CHECK(::bind(listening.fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                   ::listen(listening.fd.get(), 64) == 0 &&
                   ::getsockname(listening.fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0,
               "there is a free port");
  listening.port = ntohs(address.sin_port);
  return listening;
}

std::vector<int> exit_codes_of_group(const std::string& directory, int server_fd) {
  Listening listening = listen_on_loopback();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < run_of(directory).num_ranks; ++rank) {
    const pid_t pid = ::fork();
    SATURN_CHECK(pid >= 0, "there is room for a process");
    if (pid == 0) {
      ::close(server_fd);
      // Rank 0 alone holds the socket: once it is gone, its peers are refused instead of waiting.
      if (rank > 0) listening.fd.reset();
      be_rank(directory, rank, listening.port, rank == 0 ? listening.fd.get() : -1);
    }
    pids.push_back(pid);
  }
  listening.fd.reset();
  std::vector<int> codes;
  for (const pid_t pid : pids) {
    int status = 0;
    SATURN_CHECK(::waitpid(pid, &status, 0) == pid, "a rank is a child");
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
  return codes;
}

}  // namespace
}  // namespace saturn::testing

int main(int, char** words) {
  const int fd = std::atoi(words[1]);
  std::string directory(4096, ' ');
  for (;;) {
    const ssize_t bytes = ::recv(fd, directory.data(), directory.size(), 0);
    if (bytes <= 0) return 0;
    const std::vector<int> codes =
        saturn::testing::exit_codes_of_group(directory.substr(0, static_cast<std::size_t>(bytes)), fd);
    if (::send(fd, codes.data(), codes.size() * sizeof(int), MSG_NOSIGNAL) <= 0) return 1;
  }
}
