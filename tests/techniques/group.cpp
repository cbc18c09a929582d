// The parent's side of a group: one bound port, one process a rank, results through files.

#include "tests/techniques/group.h"

#include <arpa/inet.h>
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
          {"learning_rate", run.learning_rate},
          {"precision", run.precision},
          {"model", run.model},
          {"width", run.width},
          {"num_blocks", run.num_blocks},
          {"memory_limit_bytes", run.memory_limit_bytes},
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
  json.at("learning_rate").get_to(run.learning_rate);
  json.at("precision").get_to(run.precision);
  json.at("model").get_to(run.model);
  json.at("width").get_to(run.width);
  json.at("num_blocks").get_to(run.num_blocks);
  json.at("memory_limit_bytes").get_to(run.memory_limit_bytes);
  json.at("resume_from").get_to(run.resume_from);
  json.at("save_to").get_to(run.save_to);
  json.at("kill_rank_at_step").get_to(run.kill_rank_at_step);
  json.at("break_gradient").get_to(run.break_gradient);
  return run;
}

namespace {

/// A loopback socket that listens, as the launcher gives to rank 0, and its port.
struct Listening {
  FileDescriptor fd;
  int port = 0;
};

Listening listen_on_loopback() {
  Listening listening{FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listening.fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listening.fd.get(), 64) == 0);
  REQUIRE(::getsockname(listening.fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  listening.port = ntohs(address.sin_port);
  return listening;
}

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
  Listening listening = listen_on_loopback();
  REQUIRE(write_whole(directory.file("run.json"), to_text(to_json(run))).ok());
  const auto start = std::chrono::steady_clock::now();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < run.num_ranks; ++rank) {
    const std::vector<std::string> words = {binary_directory() + "/test_techniques_rank", directory.path(),
                                            std::to_string(rank), std::to_string(listening.port),
                                            std::to_string(rank == 0 ? listening.fd.get() : -1)};
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      std::vector<char*> arguments;
      for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      // Rank 0 alone holds the socket: once it is gone, its peers are refused instead of waiting.
      if (rank == 0) ::fcntl(listening.fd.get(), F_SETFD, 0);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    pids.push_back(pid);
  }
  listening.fd.reset();
  GroupResult result;
  for (pid_t pid : pids) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    result.exit_codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
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
    for (int rank = 0; rank < run.num_ranks; ++rank)
      StateReader(*read_whole(directory.file("state." + std::to_string(rank)))).read_into(result.state);
  }
  return result;
}

}  // namespace saturn::testing
