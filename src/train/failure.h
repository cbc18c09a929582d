// Why a rank cannot go on, as its controller is told.

#pragma once

#include <exception>
#include <string>

#include "saturn/base/result.h"
#include "saturn/worker/messages.h"

namespace saturn::train {

/// Thrown within a rank's life only, from any depth to the one place that reports it.
class Failure : public std::exception {
 public:
  Failure(worker::ErrorClass error_class, std::string message)
      : error_class_(error_class), message_(std::move(message)) {}

  worker::ErrorClass error_class() const { return error_class_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  worker::ErrorClass error_class_;
  std::string message_;
};

/// The value, or a Failure of `otherwise` (disk_full and out-of-memory faults keep their own class).
void require(const Result<void>& result, worker::ErrorClass otherwise);

template <class T>
T require(Result<T> result, worker::ErrorClass otherwise) {
  if (!result.ok()) require(Result<void>(result.faults()), otherwise);
  return *std::move(result);
}

/// What the controller is told of whatever was thrown: this is where LibTorch's exceptions end.
worker::Error classify(const std::exception_ptr& thrown);

}  // namespace saturn::train
