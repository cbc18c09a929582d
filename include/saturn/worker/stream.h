// The framed stream between controller and rank: a length and one JSON object, over any connected socket.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::worker {

/// The longest frame either side accepts.
inline constexpr std::size_t kMaxFrameBytes = std::size_t{64} << 20;

/// u32 little-endian length, then `message` (an object with a "type") as JSON.
std::string frame_of(const Json& message);

/// Takes bytes in pieces of any size and gives whole messages. Outside bytes cost at most one frame of
/// memory: a length is believed only as bytes arrive.
class FrameReader {
 public:
  void feed(std::string_view bytes);

  enum class Next { message, need_more, fault };
  /// The next message into `message`; after a fault the stream has no meaning any more.
  Next next(Json& message);
  const Diagnostics& faults() const { return faults_; }

  /// Bytes of a frame that has begun and not ended; not 0 at end of file means that it was cut.
  std::size_t num_pending_bytes() const { return buffer_.size() - at_; }

 private:
  std::string buffer_;
  std::size_t at_ = 0;
  Diagnostics faults_;
};

/// The controller's end: never blocks. What cannot be written is kept and written when the socket takes it.
class Stream {
 public:
  /// Takes over `fd` and makes it non-blocking.
  explicit Stream(FileDescriptor fd);

  int fd() const { return fd_.get(); }

  /// Queues `message` and writes what the socket takes. `pass_fd` (-1 = none) travels with its first byte.
  /// Nothing happens where the other end is gone: `receive` tells that.
  void send(const Json& message, int pass_fd = -1);
  void flush();
  bool wants_to_write() const { return !queue_.empty(); }
  /// More than 64 MiB are waiting for the other end to read.
  bool is_stuck() const;

  enum class State { open, ended, fault };
  /// Appends the messages that have arrived, at most about 1 MiB of them a call.
  State receive(std::vector<Json>& messages);
  const Diagnostics& faults() const { return reader_.faults(); }

 private:
  struct Piece {
    std::string bytes;
    std::size_t written = 0;
    FileDescriptor passed;
  };

  FileDescriptor fd_;
  std::deque<Piece> queue_;
  std::size_t queued_bytes_ = 0;
  FrameReader reader_;
};

/// A connected pair of stream sockets, both closed on exec.
struct SocketPair {
  FileDescriptor controller;
  FileDescriptor rank;
};
Result<SocketPair> make_socket_pair();

}  // namespace saturn::worker
