// Collects the faults of one file, in order, without repeating one and without end.

#pragma once

#include <set>
#include <string>
#include <utility>

#include "batch/toml_document.h"
#include "saturn/base/diagnostic.h"
#include "saturn/base/source_position.h"

namespace saturn::batch {

class Faults {
 public:
  explicit Faults(std::string path) : path_(std::move(path)) {}

  /// A fault already told at the same place with the same expectation is dropped: the points of a grid share
  /// the lines of their job.
  void add(Place at, std::string what, std::string expected, std::string fix = "") {
    add_at(position(path_, at.line, at.column), std::move(what), std::move(expected), std::move(fix));
  }
  void add(const SourcePosition& at, std::string what, std::string expected, std::string fix = "") {
    add_at(at.text(), std::move(what), std::move(expected), std::move(fix));
  }
  void add(Diagnostics faults);

  bool empty() const { return list_.empty(); }
  /// Of all faults so far, those dropped as told already included: grows whenever something is wrong.
  std::size_t count() const { return count_; }
  const std::string& path() const { return path_; }
  SourcePosition at(Place place) const { return {path_, place.line, place.column}; }

  /// Sorted by line and column within this file; what stands in other files comes after.
  Diagnostics take();

 private:
  void add_at(std::string where, std::string what, std::string expected, std::string fix);

  std::string path_;
  Diagnostics list_;
  std::set<std::pair<std::string, std::string>> seen_;
  std::size_t count_ = 0;
  std::size_t num_left_out_ = 0;
};

}  // namespace saturn::batch
