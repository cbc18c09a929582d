// A forked child whose work is a function and whose answer is the text it writes.

#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "saturn/base/files.h"
#include "saturn/base/result.h"

namespace saturn {

class Child {
 public:
  /// Writes to the parent; waits while the parent does not read.
  using Say = std::function<void(const std::string& text)>;

  /// Forks. The child runs `work` at `niceness`, in a process group of its own and with signals as a new
  /// program has them, and ends with 0; it is killed when its parent ends. Call from a process of one thread.
  ///
  /// Errors: Kind::machine where the system refuses; `what` names it there.
  static Result<Child> start(const std::string& what, int niceness,
                             const std::function<void(const Say&)>& work);

  Child() = default;
  ~Child() { end(); }
  Child(Child&& other) noexcept { *this = std::move(other); }
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool lives() const { return pid_ > 0; }
  /// Readable when `receive` has something; never blocks; -1 where no child lives.
  int fd() const { return read_end_.get(); }
  /// Appends what it has said to `text`; false once it has said everything.
  bool receive(std::string& text);
  /// Waits for its end; nothing where that was orderly, else how it ended.
  std::optional<std::string> wait();
  /// Kills it.
  void end();

 private:
  pid_t pid_ = 0;
  FileDescriptor read_end_;
};

}  // namespace saturn
