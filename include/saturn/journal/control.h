// Requests to a run: files renamed into its control directory, read by whoever holds the directory's lock.

#pragma once

#include <set>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/result.h"
#include "saturn/journal/run_directory.h"

namespace saturn::journal {

/// What a person asks of a run.
struct Request {
  enum class Verb {
    pause,    ///< target: a job; it saves a checkpoint and waits
    resume,   ///< target: a paused job
    cancel,   ///< target: a job; it ends without a result
    stop,     ///< everything that runs is saved and ended, as by a signal; twice: at once
    add,      ///< target: the absolute path of a batch, whose jobs join the run
    drain,    ///< target: a device as "node:index"; it takes no new attempts
    undrain,  ///< target: a device; it may be used again
  };
  Verb verb = Verb::stop;
  std::string target;  ///< empty for stop
  std::string id;      ///< name of its file without the ending; given by `post`
};

const char* to_string(Request::Verb verb);

/// Writes `request` and renames it into the control directory. Returns its id; ids sort by time.
///
/// Errors: Kind::machine, Kind::disk_full: the directory cannot be written to by this user.
Result<std::string> post(const RunPaths& paths, const Request& request);

/// The control directory as its reader sees it. A file that is no request (not JSON, of another kind of file,
/// too long, of an unknown verb) is told of once and removed; its content is never shown or acted on.
class ControlBox {
 public:
  explicit ControlBox(const RunPaths& paths) : directory_(paths.control()) {}

  /// The requests that lie there, oldest first; they stay until `remove`.
  std::vector<Request> look();
  /// Readable when something was put there after the last look; -1 where only looking tells.
  int fd() const { return watch_.get(); }
  bool has_news() const;
  /// After its answer was journaled. A request that was acted on and not removed comes again: all of them
  /// can.
  void remove(const Request& request);
  /// What was wrong with files seen since the last call, one sentence each.
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }

 private:
  void refuse(const std::string& name, const std::string& why);
  void watch();
  void drain();

  std::string directory_;
  FileDescriptor watch_;
  std::set<std::string> refused_;  // what could not be removed is not told of again
  std::vector<std::string> warnings_;
};

}  // namespace saturn::journal
