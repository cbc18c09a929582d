// Dispatches to the subcommand, and turns faults into messages and exit codes. CLI11 stays in this file.

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "cli/command.h"
#include "saturn/base/log.h"
#include "saturn/base/nearest.h"
#include "saturn/base/version.h"

namespace saturn::cli {

#define SATURN_COMMAND(name) CommandEntry name();
#include "cli/registry.def"
#undef SATURN_COMMAND

namespace {

std::vector<CommandEntry> commands() {
  return {
#define SATURN_COMMAND(name) name(),
#include "cli/registry.def"
#undef SATURN_COMMAND
  };
}

struct HelpLine {
  std::string left;
  std::string help;
  std::string shown_default;
};

// Declares on a CLI::App, and remembers what the help prints.
class AppOptions final : public Options {
 public:
  explicit AppOptions(CLI::App& app) : app_(app) {}

  void positional(const std::string& name, std::string& into, const std::string& help) override {
    app_.add_option(name, into, help)->required();
    usage_ += " " + name;
    lines_.push_back({name, help, ""});
  }
  void optional_positional(const std::string& name, std::string& into, const std::string& help) override {
    app_.add_option(name, into, help);
    usage_ += " [" + name + "]";
    lines_.push_back({name, help, ""});
  }
  void option(const std::string& name, const std::string& value, std::string& into, const std::string& help,
              const std::string& shown_default) override {
    app_.add_option(name, into, help)->take_last();
    lines_.push_back({name + " " + value, help, shown_default});
  }
  void option(const std::string& name, const std::string& value, std::optional<double>& into,
              const std::string& help, const std::string& shown_default) override {
    app_.add_option_function<double>(
            name, [&into](const double& given) { into = given; }, help)
        ->take_last();
    lines_.push_back({name + " " + value, help, shown_default});
  }
  void option(const std::string& name, const std::string& value, std::optional<std::int64_t>& into,
              const std::string& help, const std::string& shown_default) override {
    app_.add_option_function<std::int64_t>(
            name, [&into](const std::int64_t& given) { into = given; }, help)
        ->take_last();
    lines_.push_back({name + " " + value, help, shown_default});
  }
  void option(const std::string& name, const std::string& value, std::vector<std::string>& into,
              const std::string& help) override {
    app_.add_option(name, into, help)->allow_extra_args(false);
    lines_.push_back({name + " " + value, help, ""});
  }
  void flag(const std::string& name, bool& into, const std::string& help) override {
    app_.add_flag(name, into, help);
    lines_.push_back({name, help, ""});
  }

  std::string help(const std::string& path, const CommandEntry& entry) const {
    std::string text = std::string(entry.summary) + "\n\nUsage: saturn " + path + usage_ + " [options]\n";
    std::vector<HelpLine> lines = lines_;
    lines.push_back({"--json", "print one JSON document on stdout", ""});
    lines.push_back({"--quiet", "no progress on stderr", ""});
    lines.push_back({"--log-level LEVEL", "trace, debug, info, warn, error or off", "warn"});
    std::size_t left = 0;
    std::size_t middle = 0;
    for (const HelpLine& line : lines) {
      left = std::max(left, line.left.size());
      if (!line.shown_default.empty()) middle = std::max(middle, line.help.size());
    }
    for (const HelpLine& line : lines) {
      text += "  " + line.left + std::string(left - line.left.size() + 2, ' ') + line.help;
      if (!line.shown_default.empty()) {
        text += std::string(middle - line.help.size() + 2, ' ') + "[default: " + line.shown_default + "]";
      }
      text += "\n";
    }
    if (entry.example[0] != '\0') text += "Example: " + std::string(entry.example) + "\n";
    return text;
  }

 private:
  CLI::App& app_;
  std::string usage_;
  std::vector<HelpLine> lines_;
};

// A subcommand as declared, so that the one chosen can be run after the parse.
struct Declared {
  CLI::App* app;
  CommandEntry entry;
  std::string path;
  std::unique_ptr<AppOptions> options;
  Action action;
};

struct GlobalOptions {
  Context context;
  std::string log_level = "warn";
  bool help = false;
};

std::string group_help(const std::string& path, const CommandEntry& entry) {
  std::string text = std::string(entry.summary) + "\n\nUsage: saturn " + path + " COMMAND [options]\n";
  for (const CommandEntry& sub : entry.subcommands) {
    std::string name = sub.name;
    name.resize(std::max<std::size_t>(name.size() + 2, 12), ' ');
    text += "  " + name + sub.summary + "\n";
  }
  return text;
}

void declare(CLI::App& parent, const CommandEntry& entry, const std::string& prefix, GlobalOptions& globals,
             std::vector<Declared>& declared) {
  CLI::App* app = parent.add_subcommand(entry.name, entry.summary);
  app->set_help_flag();
  const std::string path = prefix + entry.name;
  app->add_flag("-h,--help", globals.help);
  app->add_flag("--json", globals.context.json);
  app->add_flag("--quiet", globals.context.quiet);
  app->add_option("--log-level", globals.log_level)->take_last();
  Declared one{app, entry, path, std::make_unique<AppOptions>(*app), nullptr};
  if (entry.declare != nullptr) one.action = entry.declare(*one.options);
  declared.push_back(std::move(one));
  for (const CommandEntry& sub : entry.subcommands) declare(*app, sub, path + " ", globals, declared);
}

std::string overview(const std::vector<CommandEntry>& all) {
  std::string text =
      "Train a batch of large models on one machine in the least time: measure, plan, run.\n\n"
      "Usage: saturn COMMAND [options]\n";
  for (const CommandEntry& entry : all) {
    if (entry.hidden) continue;
    std::string name = entry.name;
    name.resize(std::max<std::size_t>(name.size() + 2, 12), ' ');
    text += "  " + name + entry.summary + "\n";
  }
  return text + "`saturn COMMAND --help` shows the options of one command.\n";
}

int report(const Diagnostics& faults, const Context& context) {
  if (context.json) {
    Json document = Json::object();
    Json& errors = document["errors"] = Json::array();
    for (const Diagnostic& fault : faults) {
      errors.push_back({{"where", fault.where},
                        {"what", fault.what},
                        {"expected", fault.expected},
                        {"fix", fault.fix},
                        {"severity", fault.severity == Severity::error ? "error" : "warning"}});
    }
    print_json(document);
  }
  std::fputs(to_text(faults).c_str(), stderr);
  return exit_code(faults);
}

Diagnostic usage_fault(const std::string& what, const std::string& command) {
  return {
      .what = what,
      .expected = command.empty() ? "saturn COMMAND [options]" : "what `saturn " + command + " --help` shows",
      .fix = "saturn " + (command.empty() ? "" : command + " ") + "--help"};
}

// The deepest subcommand on the command line, or none.
const Declared* chosen(const std::vector<Declared>& declared) {
  const Declared* deepest = nullptr;
  for (const Declared& one : declared) {
    if (one.app->parsed()) deepest = &one;
  }
  return deepest;
}

// An unknown first word deserves the nearest command instead of the parser's words.
std::optional<Diagnostic> unknown_command(int argc, char** argv, const std::vector<CommandEntry>& all) {
  if (argc < 2 || argv[1][0] == '-') return std::nullopt;
  std::vector<std::string> names;
  for (const CommandEntry& entry : all) {
    if (entry.name == std::string(argv[1])) return std::nullopt;
    if (!entry.hidden) names.emplace_back(entry.name);
  }
  return Diagnostic{.what = "command " + in_quotes(argv[1]) + " does not exist",
                    .expected = "one of " + listed(names),
                    .fix = did_you_mean(argv[1], names)};
}

int run_command(int argc, char** argv) {
  const std::vector<CommandEntry> all = commands();
  CLI::App app("saturn", "saturn");
  app.set_help_flag();
  GlobalOptions globals;
  bool show_version = false;
  app.add_flag("-h,--help", globals.help);
  app.add_flag("--version", show_version);
  std::vector<Declared> declared;
  for (const CommandEntry& entry : all) declare(app, entry, "", globals, declared);

  if (const auto fault = unknown_command(argc, argv, all)) return report({*fault}, globals.context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const Declared* command = chosen(declared);
    if (!globals.help) {
      for (int i = 1; i < argc; ++i)
        globals.help |= std::string(argv[i]) == "--help" || std::string(argv[i]) == "-h";
    }
    if (!globals.help)
      return report({usage_fault(error.what(), command ? command->path : "")}, globals.context);
  }

  const Declared* command = chosen(declared);
  if (show_version) {
    print(std::string("saturn ") + version() + "\n");
    return 0;
  }
  if (command == nullptr) {
    print(overview(all));
    return globals.help ? 0 : 2;
  }
  if (globals.help) {
    print(command->action ? command->options->help(command->path, command->entry)
                          : group_help(command->path, command->entry));
    return 0;
  }
  if (!command->action) {
    return report({usage_fault("\"saturn " + command->path + "\" needs a command", command->path)},
                  globals.context);
  }
  if (const auto level = set_log_level(globals.log_level); !level.ok())
    return report(level.faults(), globals.context);
  const Result<int> result = command->action(globals.context);
  return result.ok() ? *result : report(result.faults(), globals.context);
}

}  // namespace

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    std::_Exit(1);
}

void print_json(const Json& document) {
  print(to_text(document));
}

}  // namespace saturn::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return saturn::cli::run_command(argc, argv);
}
