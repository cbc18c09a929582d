// Time behind an interface, so that profile, run and simulate can be tested on a virtual clock.

#pragma once

namespace saturn {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual double now_s() const = 0;   ///< monotonic seconds from an arbitrary zero
  virtual double unix_s() const = 0;  ///< seconds since 1970; may jump
};

/// CLOCK_MONOTONIC and CLOCK_REALTIME.
class SystemClock final : public Clock {
 public:
  double now_s() const override;
  double unix_s() const override;
};

/// Stands still until moved.
class FakeClock final : public Clock {
 public:
  double now_s() const override { return now_s_; }
  double unix_s() const override { return unix_at_zero_s_ + now_s_; }
  void advance_s(double seconds) { now_s_ += seconds; }
  /// As a wall clock that somebody sets.
  void jump_unix_s(double seconds) { unix_at_zero_s_ += seconds; }

 private:
  double now_s_ = 0.0;
  double unix_at_zero_s_ = 1'700'000'000.0;
};

}  // namespace saturn
