// A value, or the faults that stand in its place.

#pragma once

#include <utility>
#include <variant>

#include "saturn/base/check.h"
#include "saturn/base/diagnostic.h"

namespace saturn {

/// Holds a `T`, or at least one Diagnostic. Reading the wrong side is our own mistake and aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Diagnostic fault) : state_(std::in_place_index<1>, Diagnostics{std::move(fault)}) {}
  Result(Diagnostics faults) : state_(std::in_place_index<1>, std::move(faults)) {
    SATURN_CHECK(!std::get<1>(state_).empty(), "a failed Result names at least one fault");
  }

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  T& value() & {
    SATURN_CHECK(ok(), "the value of a failed Result is not read");
    return std::get<0>(state_);
  }
  const T& value() const& {
    SATURN_CHECK(ok(), "the value of a failed Result is not read");
    return std::get<0>(state_);
  }
  T&& value() && { return std::move(value()); }

  const Diagnostics& faults() const& {
    SATURN_CHECK(!ok(), "the faults of a good Result are not read");
    return std::get<1>(state_);
  }
  Diagnostics faults() && {
    SATURN_CHECK(!ok(), "the faults of a good Result are not read");
    return std::move(std::get<1>(state_));
  }

 private:
  std::variant<T, Diagnostics> state_;
};

/// Success without a value, or at least one Diagnostic. `return {};` is success.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Diagnostic fault) : faults_{std::move(fault)} {}
  Result(Diagnostics faults) : faults_(std::move(faults)) {
    SATURN_CHECK(!faults_.empty(), "a failed Result names at least one fault");
  }

  bool ok() const { return faults_.empty(); }
  explicit operator bool() const { return ok(); }
  const Diagnostics& faults() const& { return faults_; }
  Diagnostics faults() && { return std::move(faults_); }

 private:
  Diagnostics faults_;
};

}  // namespace saturn

#define SATURN_CONCAT_INNER(a, b) a##b
#define SATURN_CONCAT(a, b) SATURN_CONCAT_INNER(a, b)

/// `SATURN_TRY(auto value, call());` binds the value, or returns the faults to the caller.
#define SATURN_TRY(declaration, expression) \
  SATURN_TRY_INNER(SATURN_CONCAT(result_, __LINE__), declaration, expression)
#define SATURN_TRY_INNER(result, declaration, expression) \
  auto result = (expression);                             \
  if (!result.ok()) return std::move(result).faults();    \
  declaration = *std::move(result)

/// `SATURN_TRY_VOID(call());` returns the faults to the caller where there are any.
#define SATURN_TRY_VOID(expression) \
  if (auto result_of_try = (expression); !result_of_try.ok()) return std::move(result_of_try).faults()
