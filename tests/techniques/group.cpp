// The test's side of a group: one process a rank, forked by a server, and results through files.

#include "tests/techniques/group.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "saturn/base/files.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {

Json to_json(const GroupRun& run) {
  return {{"technique", run.technique},
          {"num_ranks", run.num_ranks},
          {"knobs", run.knobs},
          {"batch_size", run.batch_size},
          {"micro_batches", run.micro_batches},
          {"num_samples", run.num_samples},
          {"sequence_length", run.sequence_length},
          {"num_steps", run.num_steps},
          {"dropout", run.dropout},
          {"clip_norm", run.clip_norm},
          {"optimizer", run.optimizer},
          {"learning_rate", run.learning_rate},
          {"precision", run.precision},
          {"model", run.model},
          {"width", run.width},
          {"num_blocks", run.num_blocks},
          {"memory_limit_bytes", run.memory_limit_bytes},
          {"freeze", run.freeze},
          {"lora_rank", run.lora_rank},
          {"lora_targets", run.lora_targets},
          {"resume_from", run.resume_from},
          {"save_to", run.save_to},
          {"kill_rank_at_step", run.kill_rank_at_step},
          {"break_gradient", run.break_gradient}};
}

GroupRun group_run_from_json(const Json& json) {
  GroupRun run;
  json.at("technique").get_to(run.technique);
  json.at("num_ranks").get_to(run.num_ranks);
  run.knobs = json.at("knobs");
  json.at("batch_size").get_to(run.batch_size);
  json.at("micro_batches").get_to(run.micro_batches);
  json.at("num_samples").get_to(run.num_samples);
  json.at("sequence_length").get_to(run.sequence_length);
  json.at("num_steps").get_to(run.num_steps);
  json.at("dropout").get_to(run.dropout);
  json.at("clip_norm").get_to(run.clip_norm);
  json.at("optimizer").get_to(run.optimizer);
  json.at("learning_rate").get_to(run.learning_rate);
  json.at("precision").get_to(run.precision);
  json.at("model").get_to(run.model);
  json.at("width").get_to(run.width);
  json.at("num_blocks").get_to(run.num_blocks);
  json.at("memory_limit_bytes").get_to(run.memory_limit_bytes);
  json.at("freeze").get_to(run.freeze);
  json.at("lora_rank").get_to(run.lora_rank);
  json.at("lora_targets").get_to(run.lora_targets);
  json.at("resume_from").get_to(run.resume_from);
  json.at("save_to").get_to(run.save_to);
  json.at("kill_rank_at_step").get_to(run.kill_rank_at_step);
  json.at("break_gradient").get_to(run.break_gradient);
  return run;
}

namespace {

/// The process that ranks are forked from (rank_main.cpp): it has loaded LibTorch, which costs more than most
/// groups do, and has touched nothing of it.
class RankServer {
 public:
  RankServer() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    fd_ = FileDescriptor(ends[0]);
    const FileDescriptor theirs(ends[1]);
    const std::string executable = binary_directory() + "/test_techniques_rank";
    const std::string number = std::to_string(theirs.get());
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::fcntl(theirs.get(), F_SETFD, 0);
      ::execl(executable.c_str(), executable.c_str(), number.c_str(), nullptr);
      ::_exit(127);
    }
  }
  /// Its input ends, and so does it.
  ~RankServer() {
    fd_.reset();
    ::waitpid(pid_, nullptr, 0);
  }

  /// What the ranks that did `directory`/run.json ended with: exit codes, and signals below zero.
  std::vector<int> run(const std::string& directory) {
    REQUIRE(::send(fd_.get(), directory.data(), directory.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(directory.size()));
    std::vector<int> codes(64);
    const ssize_t bytes = ::recv(fd_.get(), codes.data(), codes.size() * sizeof(int), 0);
    REQUIRE(bytes > 0);
    codes.resize(static_cast<std::size_t>(bytes) / sizeof(int));
    return codes;
  }

 private:
  FileDescriptor fd_;
  pid_t pid_ = -1;
};

/// Puts the pieces that one rank wrote into whole tensors.
class StateReader {
 public:
  explicit StateReader(std::string bytes) : bytes_(std::move(bytes)) {}

  void read_into(std::map<std::string, std::vector<float>>& state) {
    while (at_ < bytes_.size()) {
      const auto name_size = static_cast<std::size_t>(number());
      const std::string name = bytes_.substr(at_, name_size);
      at_ += name_size;
      const auto rank = static_cast<std::size_t>(number());
      const std::vector<std::int64_t> shape = numbers(rank), offsets = numbers(rank), sizes = numbers(rank);
      std::vector<float>& whole = state[name];
      whole.resize(static_cast<std::size_t>(product(shape)), std::numeric_limits<float>::quiet_NaN());
      for (std::int64_t i = 0; i < product(sizes); ++i) {
        std::int64_t element = 0, stride = 1, rest = i;
        for (std::size_t d = rank; d-- > 0;) {
          element += (offsets[d] + rest % sizes[d]) * stride;
          rest /= sizes[d];
          stride *= shape[d];
        }
        std::memcpy(&whole[static_cast<std::size_t>(element)], bytes_.data() + at_, sizeof(float));
        at_ += sizeof(float);
      }
    }
  }

 private:
  std::int64_t number() {
    std::int64_t value = 0;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::vector<std::int64_t> numbers(std::size_t count) {
    std::vector<std::int64_t> values;
    while (values.size() < count) values.push_back(number());
    return values;
  }
  static std::int64_t product(const std::vector<std::int64_t>& extents) {
    return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, std::multiplies<>());
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

}  // namespace

GroupResult run_group(const GroupRun& run) {
  TemporaryDirectory directory;
  REQUIRE(write_whole(directory.file("run.json"), to_text(to_json(run))).ok());
  static RankServer server;
  const auto start = std::chrono::steady_clock::now();
  GroupResult result;
  result.exit_codes = server.run(directory.path());
  REQUIRE(static_cast<int>(result.exit_codes.size()) == run.num_ranks);
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (int rank = 0; rank < run.num_ranks; ++rank) {
    const auto error = read_whole(directory.file("error." + std::to_string(rank)));
    result.errors.push_back(error.ok() ? *error : "");
    const auto words = read_whole(directory.file("rank." + std::to_string(rank)));
    result.ranks.push_back(words.ok() ? *parse_json(*words, "rank") : Json::object());
  }
  if (const auto text = read_whole(directory.file("result.json")); text.ok()) {
    const Json json = *parse_json(*text, "result.json");
    json.at("losses").get_to(result.losses);
    json.at("norms").get_to(result.norms);
    json.at("validation_loss").get_to(result.validation_loss);
    json.at("num_right").get_to(result.num_right);
    for (int rank = 0; rank < run.num_ranks; ++rank)
      StateReader(*read_whole(directory.file("state." + std::to_string(rank)))).read_into(result.state);
  }
  return result;
}

}  // namespace saturn::testing
