// Asks the controller through the control directory, or takes its place where there is none.

#include "cli/request.h"

#include <poll.h>

#include "saturn/base/clock.h"
#include "saturn/base/signals.h"
#include "saturn/run/control.h"

namespace saturn::cli {
namespace {

constexpr double kPatienceS =
    10.0;  // a controller looks every fifth of a second, unless it measures or plans
constexpr int kLookMs = 50;

// Notes of the recovery, for whoever looks.
class Notes final : public journal::RunObserver {
 public:
  explicit Notes(bool quiet) : quiet_(quiet) {}
  void on_note(const std::string& sentence) override {
    if (!quiet_) std::fprintf(stderr, "%s\n", sentence.c_str());
  }
  void on_plan(const plan::Plan&, const journal::RunState&) override {}
  void on_event(const journal::Event&, const journal::RunState&) override {}
  void on_step(const std::string&, const journal::StepReport&, const journal::RunState&) override {}
  void on_tick(const journal::RunState&, double) override {}

 private:
  bool quiet_;
};

// What the journal says of the request; nothing where it was not taken yet.
Result<std::optional<run::Answer>> answer_in_journal(const journal::RunPaths& paths, const std::string& id) {
  SATURN_TRY(const journal::JournalContent content, journal::read_journal(paths.events()));
  for (auto event = content.events.rbegin(); event != content.events.rend(); ++event) {
    if (event->kind != journal::EventKind::requested || event->details.value("id", "") != id) continue;
    return std::optional(run::Answer{.accepted = event->details.value("accepted", false),
                                     .text = event->details.value("answer", "")});
  }
  return std::optional<run::Answer>();
}

Result<int> tell(const run::Answer& answer, bool taken, const std::string& directory,
                 const Context& context) {
  if (!answer.accepted) {
    return Diagnostic{.kind = Kind::machine,
                      .where = directory,
                      .what = answer.text,
                      .fix = "`saturn status " + directory + "` shows its jobs and where each stands"};
  }
  if (context.json) {
    print_json({{"accepted", answer.accepted}, {"answer", answer.text}, {"taken", taken}});
  } else {
    print(answer.text + "\n");
  }
  return 0;
}

// Nobody holds the directory: this process does, for as long as it takes.
Result<std::optional<run::Answer>> answer_myself(const journal::RunPaths& paths,
                                                 const journal::Request& request, const Context& context) {
  const SystemClock clock;
  Result<journal::RunDirectory> held = journal::RunDirectory::open(paths.root(), clock);
  if (!held.ok()) {
    if (journal::is_locked(paths)) return std::optional<run::Answer>();
    return std::move(held).faults();
  }
  Notes notes(context.quiet);
  SATURN_TRY(const run::Answer answer, run::answer_at_rest(request, *held, notes));
  return std::optional(answer);
}

}  // namespace

Result<int> ask(const std::string& directory, journal::Request request, const Context& context) {
  const journal::RunPaths paths(directory);
  SATURN_TRY_VOID(journal::read_run_state(paths));
  const StopSignals signals;
  request.id = "at-rest";
  SATURN_TRY(std::optional<run::Answer> answer, answer_myself(paths, request, context));
  if (answer) return tell(*answer, true, directory, context);

  SATURN_TRY(request.id, journal::post(paths, request));
  const SystemClock clock;
  const double deadline_s = clock.now_s() + kPatienceS;
  while (clock.now_s() < deadline_s && StopSignals::count() == 0) {
    SATURN_TRY(answer, answer_in_journal(paths, request.id));
    if (answer) return tell(*answer, true, directory, context);
    pollfd wake{.fd = signals.fd(), .events = POLLIN, .revents = 0};
    ::poll(&wake, 1, kLookMs);
  }
  return tell({.accepted = true, .text = "the request waits: the controller measures, plans, or is gone"},
              false, directory, context);
}

}  // namespace saturn::cli
