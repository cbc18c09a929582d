// Frames and lines, and when to write them.

#include "saturn/view/displays.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "saturn/base/units.h"
#include "saturn/view/text.h"

namespace saturn::view {
namespace {

constexpr double kFrameEveryS = 0.1;
constexpr double kTellEveryS = 10.0;

std::string stamp(double time_s) {
  char text[32];
  std::snprintf(text, sizeof text, "[%8.1f s] ", time_s);
  return text;
}

std::string loss_text(double loss) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", loss);
  return text;
}

const JobView* find(const RunView& run, const std::string& name) {
  const auto found =
      std::find_if(run.jobs.begin(), run.jobs.end(), [&](const JobView& job) { return job.name == name; });
  return found == run.jobs.end() ? nullptr : &*found;
}

// What an event means to the person who watches; empty where it is not worth a line. `matters` is set for
// what is said above a live frame too.
std::string sentence_of(const journal::Event& event, const RunView& run, const journal::RunState& state,
                        bool& matters) {
  if (event.kind == journal::EventKind::device_changed) {
    matters = true;
    return "device " + event.details.value("node", "") + ":" +
           std::to_string(event.details.value("device", 0)) + " " + event.details.value("happened", "") +
           ": " + event.details.value("reason", "");
  }
  const JobView* job = find(run, event.job);
  const journal::JobRecord* record = state.find(event.job);
  if (job == nullptr || record == nullptr) return "";
  switch (event.kind) {
    case journal::EventKind::attempt_started: {
      std::string text = job->name + ": started, " + job->configuration + " on " + job->devices;
      const journal::Attempt* attempt = record->last_attempt();
      if (attempt == nullptr) return text;
      if (attempt->from_step > 0) text += ", from step " + std::to_string(attempt->from_step);
      if (attempt->number > 1) text += ", attempt " + std::to_string(attempt->number);
      return text + ", predicted " + format_duration(attempt->predicted_s);
    }
    case journal::EventKind::metric:
      if (!job->validation_loss) return "";
      return job->name + ": step " + std::to_string(job->step) + " of " + std::to_string(job->num_steps) +
             ", validation loss " + loss_text(*job->validation_loss);
    case journal::EventKind::attempt_ended: {
      std::string text =
          job->name + ": " + journal::to_string(job->state) + " after " + format_duration(job->time_s);
      if (job->state == journal::JobState::done) {
        if (job->loss) text += ", loss " + loss_text(*job->loss);
        if (job->validation_loss) text += ", validation loss " + loss_text(*job->validation_loss);
        return text;
      }
      matters = true;
      const journal::Attempt* attempt = record->last_attempt();
      if (attempt != nullptr && !attempt->message.empty()) text += ": " + attempt->message;
      return text;
    }
    case journal::EventKind::struck:
      matters = true;
      return job->name + ": " + job->configuration + " is not tried again" +
             (record->struck.empty() ? "" : ": " + record->struck.back().reason);
    case journal::EventKind::job_changed:
      matters = true;
      return job->name + ": " + journal::to_string(job->state) +
             (job->reason.empty() ? "" : ": " + job->reason);
    case journal::EventKind::skipped:
      matters = true;
      return job->name + ": a number was not finite; the step was skipped (" +
             std::to_string(record->skipped_steps.size()) + " so far)";
    case journal::EventKind::warning:
      matters = true;
      return job->name + ": " + event.details.value("message", "");
    case journal::EventKind::run_started:
    case journal::EventKind::device_changed:
    case journal::EventKind::batch_accepted:
    case journal::EventKind::batch_added:
    case journal::EventKind::requested:
    case journal::EventKind::planned:
    case journal::EventKind::introspected:
    case journal::EventKind::training:
    case journal::EventKind::progress:
    case journal::EventKind::saving:
    case journal::EventKind::checkpoint:
    case journal::EventKind::proposed:
    case journal::EventKind::searched:
    case journal::EventKind::stopping:
    case journal::EventKind::run_ended:
      return "";
  }
  return "";
}

}  // namespace

Screen stderr_screen(bool quiet) {
  if (quiet) return {[] { return Terminal{}; }, [](const std::string&) { return true; }};
  return {[] { return terminal_of(STDERR_FILENO); },
          [](const std::string& bytes) { return write_if_ready(STDERR_FILENO, bytes); }};
}

void Display::say(const std::string& text) {
  const Terminal terminal = screen_.terminal();
  if (!terminal.interactive) {
    screen_.write(printable(text, terminal.unicode) + "\n");
    return;
  }
  std::string lines;
  for (const std::string& line : wrapped(text, terminal.width, terminal.unicode)) lines += line + "\n";
  area_.print_above(lines, terminal);
}

void Display::draw(const std::function<std::vector<std::string>(const Terminal&)>& frame) {
  const double now_s = clock_->now_s();
  if (now_s - drawn_at_s_ < kFrameEveryS) return;
  const Terminal terminal = screen_.terminal();
  if (!terminal.interactive) return;
  drawn_at_s_ = now_s;
  area_.draw(frame(terminal), terminal);
}

void Display::finish() {
  const Terminal terminal = screen_.terminal();
  if (terminal.interactive) area_.clear(terminal);
}

void RunDisplay::on_note(const std::string& sentence) {
  display_.say(sentence);
}

void RunDisplay::on_plan(const plan::Plan& plan, const journal::RunState&) {
  model_.on_plan(plan);
  std::string text = "plan: " + std::to_string(plan.assignments.size()) +
                     (plan.assignments.size() == 1 ? " assignment" : " assignments") + ", makespan " +
                     format_duration(plan.makespan_s) + ", at most " + format_percent(plan.gap()) +
                     " from the best possible";
  if (plan.origin_s > 0) text += ", from " + format_duration(plan.origin_s) + " on";
  display_.say(text);
}

void RunDisplay::on_event(const journal::Event& event, const journal::RunState& state) {
  bool matters = false;
  const std::string sentence = sentence_of(event, model_.view(state, event.time_s), state, matters);
  if (!sentence.empty() && (matters || !display_.interactive())) display_.say(stamp(event.time_s) + sentence);
}

void RunDisplay::on_step(const std::string& job, const journal::StepReport& report,
                         const journal::RunState& state) {
  model_.on_step(job, report, state);
  if (display_.interactive()) return;
  const double now_s = display_.clock().now_s();
  const auto [told, is_first] = told_s_.emplace(job, now_s);
  if (is_first || now_s - told->second < kTellEveryS) return;
  told->second = now_s;
  const RunView run = model_.view(state, time_s_);
  const JobView* view = find(run, job);
  if (view == nullptr) return;
  std::string text = stamp(time_s_) + job + ": step " + std::to_string(view->step) + " of " +
                     std::to_string(view->num_steps) + ", loss " + loss_text(report.loss);
  if (view->units_per_s > 0) text += ", " + format_count(view->units_per_s) + " " + view->unit;
  if (view->eta_s) text += ", about " + format_duration(*view->eta_s) + " left";
  display_.say(text);
}

void RunDisplay::on_tick(const journal::RunState& state, double time_s) {
  time_s_ = time_s;
  display_.draw([&](const Terminal& terminal) {
    return run_frame(model_.view(state, time_s), terminal,
                     static_cast<std::size_t>(std::max(1, terminal.height - 1)));
  });
}

void TrialDisplay::note(const std::string& sentence) {
  display_.say(sentence);
}

void TrialDisplay::begin(int num_trials, int num_reused) {
  num_trials_ = num_trials;
  std::string text =
      "profile: " + std::to_string(num_trials) + (num_trials == 1 ? " trial" : " trials") + " to measure";
  if (num_reused > 0) text += ", " + std::to_string(num_reused) + " known";
  display_.say(text);
}

void TrialDisplay::started(const std::string& trial) {
  running_.push_back({.trial = trial});
}

void TrialDisplay::step(const std::string& trial, int step, int num_steps) {
  for (Running& running : running_) {
    if (running.trial == trial) running = {trial, step, num_steps};
  }
}

void TrialDisplay::ended(const std::string& trial, const std::string& result, int num_ended, int num_trials,
                         double eta_s) {
  std::erase_if(running_, [&](const Running& running) { return running.trial == trial; });
  num_ended_ = num_ended;
  num_trials_ = num_trials;
  eta_at_s_ = eta_s >= 0 ? elapsed_s_ + eta_s : -1.0;
  std::string text = stamp(elapsed_s_) + std::to_string(num_ended) + " of " + std::to_string(num_trials_) +
                     "  " + trial + ": " + result;
  if (!display_.interactive() && eta_s > 0) text += ", about " + format_duration(eta_s) + " left";
  display_.say(text);
  if (num_ended_ >= num_trials_) display_.finish();  // whoever draws next finds an empty place
}

void TrialDisplay::tick(double elapsed_s) {
  elapsed_s_ = elapsed_s;
  if (num_ended_ >= num_trials_) return;
  display_.draw([&](const Terminal& terminal) { return frame(terminal); });
}

std::vector<std::string> TrialDisplay::frame(const Terminal& terminal) const {
  constexpr int kBar = 20;
  double done = num_ended_;
  for (const Running& running : running_)
    done += running.num_steps > 0 ? static_cast<double>(running.step) / running.num_steps : 0.0;
  std::string head = progress_bar(num_trials_ > 0 ? done / num_trials_ : 0.0,
                                  std::min(kBar, terminal.width / 3), terminal.unicode) +
                     " " + std::to_string(num_ended_) + " of " + std::to_string(num_trials_) + " trials, " +
                     format_duration(elapsed_s_);
  if (eta_at_s_ >= 0) head += ", about " + format_duration(std::max(0.0, eta_at_s_ - elapsed_s_)) + " left";
  std::vector<std::string> lines = {fitted(head, terminal.width, terminal.unicode)};
  for (const Running& running : running_) {
    if (static_cast<int>(lines.size()) + 1 >= terminal.height) break;
    const std::string at = running.num_steps > 0 ? "  step " + std::to_string(running.step) + " of " +
                                                       std::to_string(running.num_steps)
                                                 : "  starting";
    const int room = std::max(4, terminal.width - columns_of(at) - 2);
    lines.push_back(
        fitted("  " + fitted(running.trial, room, terminal.unicode) + at, terminal.width, terminal.unicode));
  }
  return lines;
}

}  // namespace saturn::view
