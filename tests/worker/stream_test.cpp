#include "saturn/worker/stream.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

#include "saturn/base/random.h"

namespace saturn::worker {
namespace {

double elapsed_s(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Length and text as they are, whatever they say.
std::string raw_frame(std::uint32_t length, const std::string& text) {
  std::string frame(4, '\0');
  for (std::size_t i = 0; i < 4; ++i) frame[i] = static_cast<char>((length >> (8 * i)) & 0xff);
  return frame + text;
}

Json numbered(int number) {
  return {{"type", "test"}, {"number", number}};
}

TEST_SUITE("worker") {
  TEST_CASE("worker/frame: is a little-endian length and the text") {
    CHECK(frame_of(Json{{"type", "end"}}) == std::string("\x0e\0\0\0", 4) + R"({"type":"end"})");
  }

  TEST_CASE("worker/frame: messages come whole however the bytes are cut") {
    std::string bytes;
    for (int i = 0; i < 50; ++i)
      bytes += frame_of(
          {{"type", "test"}, {"number", i}, {"text", std::string(static_cast<std::size_t>(i * 7), 'x')}});
    Random random(3);
    for (int round = 0; round < 50; ++round) {
      FrameReader reader;
      int next_number = 0;
      for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t count =
            std::min<std::size_t>(1 + random.below(round == 0 ? 1 : 600), bytes.size() - at);
        reader.feed(std::string_view(bytes).substr(at, count));
        at += count;
        Json message;
        while (reader.next(message) == FrameReader::Next::message) CHECK(message["number"] == next_number++);
      }
      CHECK(next_number == 50);
      CHECK(reader.num_pending_bytes() == 0);
    }
  }

  TEST_CASE("worker/frame: hostile bytes are a fault and cost no memory") {
    const std::vector<std::string> hostile = {
        raw_frame(0, ""),
        raw_frame(0xffffffff, "x"),
        raw_frame((64U << 20) + 1, "x"),
        raw_frame(3, "{]}"),
        raw_frame(2, "{}{}"),                                           // the second frame's length is "{}.."
        raw_frame(200, std::string(100, '[') + std::string(100, ']')),  // too deep
        raw_frame(14, "{\"a\":1,\"a\":2}  "),
        raw_frame(4, "\xff\xfe\xfd\xfc"),
    };
    for (const std::string& bytes : hostile) {
      FrameReader reader;
      reader.feed(bytes + std::string(8, 'z'));
      Json message;
      FrameReader::Next next;
      while ((next = reader.next(message)) == FrameReader::Next::message) {
      }
      CHECK(next == FrameReader::Next::fault);
      REQUIRE(reader.faults().size() == 1);
      CHECK_FALSE(reader.faults().front().what.empty());
      reader.feed(frame_of(numbered(1)));
      CHECK(reader.next(message) == FrameReader::Next::fault);  // there is no way back
    }
  }

  TEST_CASE("worker/frame: random bytes never give more than they are") {
    Random random(11);
    for (int round = 0; round < 300; ++round) {
      FrameReader reader;
      std::string bytes = frame_of(numbered(round));
      for (int flips = 0; flips < 3; ++flips)
        bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
      reader.feed(bytes);
      Json message;
      int num_messages = 0;
      while (reader.next(message) == FrameReader::Next::message) ++num_messages;
      CHECK(num_messages <= 1);
    }
  }

  TEST_CASE("worker/stream: a large message passes both ways while nobody blocks") {
    auto pair = make_socket_pair();
    REQUIRE(pair.ok());
    Stream left(std::move(pair->controller));
    Stream right(std::move(pair->rank));
    const Json large = {{"type", "test"}, {"text", std::string(10 << 20, 'x')}};
    const auto start = std::chrono::steady_clock::now();
    left.send(large);
    right.send(large);
    CHECK(left.wants_to_write());
    std::vector<Json> at_left;
    std::vector<Json> at_right;
    for (int i = 0; i < 100000 && (at_left.empty() || at_right.empty()); ++i) {
      left.flush();
      REQUIRE(right.receive(at_right) == Stream::State::open);
      right.flush();
      REQUIRE(left.receive(at_left) == Stream::State::open);
    }
    REQUIRE(at_left.size() == 1);
    REQUIRE(at_right.size() == 1);
    CHECK(at_left.front() == large);
    CHECK(at_right.front() == large);
    CHECK_FALSE(left.wants_to_write());
    CHECK(elapsed_s(start) < 20);
  }

  TEST_CASE("worker/stream: one call takes a bounded part of a flood") {
    auto pair = make_socket_pair();
    REQUIRE(pair.ok());
    Stream sender(std::move(pair->controller));
    Stream taker(std::move(pair->rank));
    const Json piece = {{"type", "test"}, {"text", std::string(100 << 10, 'x')}};
    for (int i = 0; i < 40; ++i) sender.send(piece);
    std::size_t most = 0;
    std::size_t total = 0;
    for (int i = 0; i < 10000 && total < 40; ++i) {
      std::vector<Json> messages;
      REQUIRE(taker.receive(messages) == Stream::State::open);
      most = std::max(most, messages.size());
      total += messages.size();
      sender.flush();
    }
    CHECK(total == 40);
    CHECK(most <= 12);
  }

  TEST_CASE("worker/stream: an end that does not read is noticed and never waited for") {
    auto pair = make_socket_pair();
    REQUIRE(pair.ok());
    Stream stream(std::move(pair->controller));
    const Json piece = {{"type", "test"}, {"text", std::string(8 << 20, 'x')}};
    for (int i = 0; i < 7; ++i) stream.send(piece);
    CHECK_FALSE(stream.is_stuck());
    for (int i = 0; i < 4; ++i) stream.send(piece);
    CHECK(stream.is_stuck());
  }

  TEST_CASE("worker/stream: an end after a message is seen after that message") {
    auto pair = make_socket_pair();
    REQUIRE(pair.ok());
    Stream taker(std::move(pair->controller));
    {
      Stream sender(std::move(pair->rank));
      sender.send(numbered(1));
      sender.send(numbered(2));
    }
    std::vector<Json> messages;
    CHECK(taker.receive(messages) == Stream::State::ended);
    CHECK(messages.size() == 2);
    taker.send(numbered(3));  // into the void
    CHECK_FALSE(taker.wants_to_write());
  }

  TEST_CASE("worker/stream: a descriptor travels with its message and works at the other end") {
    auto pair = make_socket_pair();
    REQUIRE(pair.ok());
    Stream stream(std::move(pair->controller));
    std::array<int, 2> pipe_ends{};
    REQUIRE(::pipe2(pipe_ends.data(), O_CLOEXEC) == 0);
    const FileDescriptor read_end(pipe_ends[0]);
    {
      const FileDescriptor write_end(pipe_ends[1]);
      stream.send(numbered(1), write_end.get());
    }
    std::array<char, 4096> bytes{};
    iovec piece{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t n = ::recvmsg(pair->rank.get(), &header, MSG_CMSG_CLOEXEC);
    CHECK(std::string(bytes.data(), static_cast<std::size_t>(n)) == frame_of(numbered(1)));
    const cmsghdr* passed = CMSG_FIRSTHDR(&header);
    REQUIRE(passed != nullptr);
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(passed), sizeof fd);
    const FileDescriptor owned(fd);
    CHECK(::write(fd, "ok", 2) == 2);
    CHECK(::read(read_end.get(), bytes.data(), bytes.size()) == 2);
  }
}

}  // namespace
}  // namespace saturn::worker
