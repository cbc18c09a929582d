// Several ranks in one process, a thread each: for tests of what ranks say to each other.

#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "saturn/train/communicator.h"

namespace saturn::testing {

/// Runs `life` for every rank of a connected group, each in its own thread, and returns what each threw: ""
/// where all went well. A rank that threw leaves its group up, as in a process that ends.
inline std::vector<std::string> run_ranks(int num_ranks,
                                          const std::function<void(train::Communicator&)>& life,
                                          double timeout_s = 30.0) {
  const int listen_fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listen_fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listen_fd, 64) == 0);
  REQUIRE(::getsockname(listen_fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);

  std::vector<std::string> errors(static_cast<std::size_t>(num_ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        auto connected = train::Communicator::connect({.port = ntohs(address.sin_port),
                                                       .listen_fd = rank == 0 ? listen_fd : -1,
                                                       .key = "test",
                                                       .rank = rank,
                                                       .num_ranks = num_ranks,
                                                       .timeout_s = timeout_s});
        life(**connected);
        (*connected)->shutdown();
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace saturn::testing
