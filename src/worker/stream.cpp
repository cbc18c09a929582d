// Frames in pieces, and a socket that is never waited for.

#include "saturn/worker/stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace saturn::worker {
namespace {

constexpr std::size_t kHeaderBytes = 4;
constexpr std::size_t kMaxQueuedBytes = std::size_t{64} << 20;
constexpr std::size_t kReceiveBytes = std::size_t{1} << 20;
constexpr JsonLimits kFrameLimits{.bytes = kMaxFrameBytes, .depth = 64};

std::size_t length_at(const char* header) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < kHeaderBytes; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(header[i])) << (8 * i);
  }
  return length;
}

// One sendmsg, with a descriptor beside the bytes where `pass_fd` is one. -1 with errno.
ssize_t send_some(int fd, std::string_view bytes, int pass_fd) {
  iovec piece{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (pass_fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pass_fd, sizeof(int));
  }
  return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

}  // namespace

std::string frame_of(const Json& message) {
  const std::string text = to_line(message);
  SATURN_CHECK(!text.empty() && text.size() <= kMaxFrameBytes, "a message of our own fits into a frame");
  std::string frame(kHeaderBytes, '\0');
  for (std::size_t i = 0; i < kHeaderBytes; ++i) {
    frame[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  }
  return frame + text;
}

void FrameReader::feed(std::string_view bytes) {
  // What was read is dropped here and not frame by frame, so that many small frames cost one move.
  buffer_.erase(0, at_);
  at_ = 0;
  buffer_.append(bytes);
}

FrameReader::Next FrameReader::next(Json& message) {
  if (!faults_.empty()) return Next::fault;
  if (num_pending_bytes() < kHeaderBytes) return Next::need_more;
  const std::size_t length = length_at(buffer_.data() + at_);
  if (length == 0 || length > kMaxFrameBytes) {
    faults_.push_back({.where = "message",
                       .what = "a frame of " + std::to_string(length) + " bytes is announced",
                       .expected = "1 to " + std::to_string(kMaxFrameBytes) + " bytes"});
    return Next::fault;
  }
  if (num_pending_bytes() < kHeaderBytes + length) return Next::need_more;
  const std::string_view text = std::string_view(buffer_).substr(at_ + kHeaderBytes, length);
  auto parsed = parse_json(text, "message", kFrameLimits);
  if (!parsed.ok()) {
    faults_ = std::move(parsed).faults();
    return Next::fault;
  }
  at_ += kHeaderBytes + length;
  message = *std::move(parsed);
  return Next::message;
}

Stream::Stream(FileDescriptor fd) : fd_(std::move(fd)) {
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  SATURN_CHECK(flags >= 0 && ::fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK) == 0, "the socket is open");
}

void Stream::send(const Json& message, int pass_fd) {
  Piece piece{.bytes = frame_of(message)};
  if (pass_fd >= 0) piece.passed.reset(::fcntl(pass_fd, F_DUPFD_CLOEXEC, 0));
  queued_bytes_ += piece.bytes.size();
  queue_.push_back(std::move(piece));
  flush();
}

bool Stream::is_stuck() const {
  return queued_bytes_ > kMaxQueuedBytes;
}

void Stream::flush() {
  while (!queue_.empty()) {
    Piece& piece = queue_.front();
    const std::string_view rest = std::string_view(piece.bytes).substr(piece.written);
    const ssize_t n = send_some(fd_.get(), rest, piece.passed.get());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n < 0) {
      queue_.clear();
      queued_bytes_ = 0;
      return;
    }
    piece.passed.reset();
    piece.written += static_cast<std::size_t>(n);
    if (piece.written < piece.bytes.size()) continue;
    queued_bytes_ -= piece.bytes.size();
    queue_.pop_front();
  }
}

Stream::State Stream::receive(std::vector<Json>& messages) {
  std::array<char, 1 << 16> bytes;
  for (std::size_t taken = 0; taken < kReceiveBytes;) {
    const ssize_t n = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return State::open;
    if (n <= 0) return State::ended;  // a reset is an end like any other
    taken += static_cast<std::size_t>(n);
    reader_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(n)));
    Json message;
    FrameReader::Next next;
    while ((next = reader_.next(message)) == FrameReader::Next::message)
      messages.push_back(std::move(message));
    if (next == FrameReader::Next::fault) return State::fault;
  }
  return State::open;
}

Result<SocketPair> make_socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_fault("", "make a socket pair", errno);
  }
  return SocketPair{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

}  // namespace saturn::worker
