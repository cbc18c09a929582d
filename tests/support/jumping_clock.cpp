// A wall clock that jumps by days, for programs started with libsaturn_clock.so as LD_PRELOAD; the monotonic
// clocks stay as they are. SATURN_CLOCK_JUMPS seeds the jumps: one every quarter of a second.

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

constexpr std::int64_t kMostJumpS = 40LL * 24 * 3600;

std::int64_t jump_s() {
  timespec steady{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &steady);
  const char* const seed = std::getenv("SATURN_CLOCK_JUMPS");
  if (seed == nullptr) return 0;
  auto mixed = static_cast<std::uint64_t>(std::strtoull(seed, nullptr, 10));
  mixed += static_cast<std::uint64_t>(steady.tv_sec * 4 + steady.tv_nsec / 250'000'000);
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
  return static_cast<std::int64_t>(mixed % (2 * kMostJumpS)) - kMostJumpS;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += jump_s();
  return result;
}

int gettimeofday(timeval* time, void*) noexcept {
  timespec now{};
  const int result = clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return result;
}

time_t time(time_t* into) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != nullptr) *into = now.tv_sec;
  return now.tv_sec;
}

}  // extern "C"
