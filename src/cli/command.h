// What a subcommand is: a name, a sentence, options, and an action that returns an exit code.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::cli {

/// What every command takes.
struct Context {
  bool json = false;   ///< one document on stdout instead of text
  bool quiet = false;  ///< no progress on stderr
};

/// Exit code of a command that did its work, or the faults that main prints (their kind decides the code).
using Action = std::function<Result<int>(const Context&)>;

/// Declares what a command reads from its command line. Targets must outlive the parse: keep them in a struct
/// that the action owns. The help text is made from these declarations.
class Options {
 public:
  virtual ~Options() = default;

  /// A required argument by position, shown as `NAME`.
  virtual void positional(const std::string& name, std::string& into, const std::string& help) = 0;
  virtual void optional_positional(const std::string& name, std::string& into, const std::string& help) = 0;

  /// `--name VALUE`. `shown_default` is printed in the help; empty prints none.
  virtual void option(const std::string& name, const std::string& value, std::string& into,
                      const std::string& help, const std::string& shown_default = "") = 0;
  virtual void option(const std::string& name, const std::string& value, std::optional<double>& into,
                      const std::string& help, const std::string& shown_default = "") = 0;
  virtual void option(const std::string& name, const std::string& value, std::optional<std::int64_t>& into,
                      const std::string& help, const std::string& shown_default = "") = 0;
  /// Repeatable: `--name A --name B`.
  virtual void option(const std::string& name, const std::string& value, std::vector<std::string>& into,
                      const std::string& help) = 0;
  virtual void flag(const std::string& name, bool& into, const std::string& help) = 0;
};

/// One line of registry.def, written at the end of the command's file.
struct CommandEntry {
  const char* name;
  const char* summary;  ///< a sentence with its full stop
  const char* example;  ///< a command line that works; empty for a hidden command
  Action (*declare)(Options&);
  bool hidden = false;
  std::vector<CommandEntry> subcommands = {};
};

/// Declares `Args` through its `declare(Options&)` and runs it through `run(const Context&)`.
template <class Args>
Action make_action(Options& options) {
  auto args = std::make_shared<Args>();
  args->declare(options);
  return [args](const Context& context) -> Result<int> { return args->run(context); };
}

/// Writes to stdout, whole; a closed pipe ends the process quietly.
void print(const std::string& text);

/// Prints `document` as the one JSON document of a command.
void print_json(const Json& document);

}  // namespace saturn::cli
