// Order, repetition and number of faults.

#include "batch/faults.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace saturn::batch {
namespace {

constexpr std::size_t kMostFaults = 100;

// (other file?, line, column) of "path:line:col".
std::tuple<bool, long, long> order_of(const Diagnostic& fault, const std::string& path) {
  if (!fault.where.starts_with(path + ":")) return {true, 0, 0};
  const char* text = fault.where.c_str() + path.size() + 1;
  char* end = nullptr;
  const long line = std::strtol(text, &end, 10);
  const long column = *end == ':' ? std::strtol(end + 1, nullptr, 10) : 0;
  return {false, line, column};
}

}  // namespace

void Faults::add_at(std::string where, std::string what, std::string expected, std::string fix) {
  ++count_;
  if (!seen_.emplace(where, expected).second) return;
  if (list_.size() >= kMostFaults) {
    ++num_left_out_;
    return;
  }
  list_.push_back({.where = std::move(where),
                   .what = std::move(what),
                   .expected = std::move(expected),
                   .fix = std::move(fix)});
}

void Faults::add(Diagnostics faults) {
  for (Diagnostic& fault : faults) {
    add_at(std::move(fault.where), std::move(fault.what), std::move(fault.expected), std::move(fault.fix));
  }
}

Diagnostics Faults::take() {
  std::stable_sort(list_.begin(), list_.end(), [this](const Diagnostic& a, const Diagnostic& b) {
    return order_of(a, path_) < order_of(b, path_);
  });
  if (num_left_out_ > 0) {
    list_.push_back({.where = path_,
                     .what = std::to_string(num_left_out_) + " more faults are not shown",
                     .expected = "none",
                     .fix = "correct those above first"});
  }
  return std::move(list_);
}

}  // namespace saturn::batch
