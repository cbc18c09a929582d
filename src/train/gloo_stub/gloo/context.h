// Stand-in, see README. `setTimeout` is non-virtual and exported by libtorch_cpu.
#pragma once
#include <chrono>
namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
}  // namespace gloo
