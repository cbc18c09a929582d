// From exceptions and faults to the classes that the controller acts on.

#include "failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <new>

#include "saturn/train/memory.h"

namespace saturn::train {

using worker::ErrorClass;

void require(const Result<void>& result, ErrorClass otherwise) {
  if (result.ok()) return;
  const Diagnostics& faults = result.faults();
  const bool full = std::any_of(faults.begin(), faults.end(),
                                [](const Diagnostic& d) { return d.kind == Kind::disk_full; });
  std::string text = to_text(faults);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  throw Failure(full ? ErrorClass::disk_full : otherwise, std::move(text));
}

namespace {

/// Gloo throws its own exception types, which the wheel has no header for; its messages name its sources.
bool is_of_gloo(const std::string& message) {
  for (const char* mark :
       {"gloo/", "Connection closed by peer", "Connection reset by peer", "Timed out waiting"})
    if (message.find(mark) != std::string::npos) return true;
  return false;
}

/// What the CUDA runtime says of a GPU that is gone, and of nothing that a program can do wrong.
bool is_of_lost_device(const std::string& message) {
  for (const char* mark :
       {"uncorrectable ECC error", "hardware stack error", "no CUDA-capable device is detected",
        "all CUDA-capable devices are busy or unavailable", "uncorrectable NVLink error", "GPU is lost"})
    if (message.find(mark) != std::string::npos) return true;
  return false;
}

ErrorClass class_of(const std::string& message) {
  if (is_of_lost_device(message)) return ErrorClass::device_lost;
  return is_of_gloo(message) ? ErrorClass::peer_lost : ErrorClass::internal;
}

}  // namespace

worker::Error classify(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Failure& failure) {
    return {failure.error_class(), failure.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return {ErrorClass::out_of_memory, error.what_without_backtrace(), cpu_memory().refused_bytes};
  } catch (const c10::DistError& error) {
    return {ErrorClass::peer_lost, error.what_without_backtrace()};
  } catch (const c10::NotImplementedError& error) {
    return {ErrorClass::unsupported, error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return {class_of(message), message};
  } catch (const std::bad_alloc&) {
    return {ErrorClass::host_out_of_memory, "the machine has no more memory"};
  } catch (const std::exception& error) {
    const std::string message = error.what();
    return {class_of(message), message};
  } catch (...) {
    return {ErrorClass::internal, "something that is no std::exception was thrown"};
  }
}

}  // namespace saturn::train
