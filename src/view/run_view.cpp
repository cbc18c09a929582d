// From journal and steps to numbers, and from numbers to lines.

#include "saturn/view/run_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "saturn/base/units.h"
#include "saturn/view/schedule.h"
#include "saturn/view/text.h"
#include "view/paint.h"

namespace saturn::view {
namespace {

using journal::JobState;

std::string text_of(const char* format, double value) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "3.2/s", or "2.41 s/step" where a step takes longer.
std::string step_rate_text(double step_time_s) {
  if (step_time_s <= 0) return "";
  return step_time_s < 1 ? text_of(1 / step_time_s < 100 ? "%.1f/s" : "%.0f/s", 1 / step_time_s)
                         : text_of("%.2f s/step", step_time_s);
}

// Where a line stands among the lines of a frame: what moves first, what is over last.
int frame_rank(JobState state) {
  switch (state) {
    case JobState::training:
    case JobState::saving:
    case JobState::stopping:
    case JobState::starting:
      return 0;
    case JobState::failed:
      return 1;
    case JobState::pending:
    case JobState::paused:
      return 2;
    case JobState::stopped_early:
    case JobState::cancelled:
    case JobState::done:
      return 3;
  }
  return 3;
}

std::string head_line(const RunView& run, const Terminal& terminal) {
  std::string text = std::to_string(run.num_done) + " of " + std::to_string(run.jobs.size()) + " jobs done";
  if (run.num_failed > 0) text += ", " + std::to_string(run.num_failed) + " failed";
  if (run.num_stopped_early > 0) text += ", " + std::to_string(run.num_stopped_early) + " stopped early";
  if (run.num_cancelled > 0) text += ", " + std::to_string(run.num_cancelled) + " cancelled";
  text += glyphs(terminal.unicode).separator + format_duration(run.time_s);
  if (run.eta_s) text += ", about " + format_duration(*run.eta_s) + " left";
  const int room = terminal.width - columns_of(text) - 2;
  constexpr int kLeastBar = 6;
  constexpr int kMostBar = 30;
  const std::string percent = text_of("%3.0f %%", 100 * run.share);
  const int bar = std::min(kMostBar, room - columns_of(percent) - 1);
  if (bar < kLeastBar) return fitted(text, terminal.width, terminal.unicode);
  std::string line = progress_bar(run.share, bar, terminal.unicode) + " " + percent + "  " + text;
  const int left = terminal.width - columns_of(line) - 2;
  if (left >= columns_of(run.batch)) line = printable(run.batch, terminal.unicode) + "  " + line;
  return line;
}

std::string when_text(const JobView& job) {
  if (job.eta_s) return format_duration(*job.eta_s) + " left";
  if (job.starts_in_s) return *job.starts_in_s > 0 ? "in " + format_duration(*job.starts_in_s) : "next";
  return job.attempts > 0 ? format_duration(job.time_s) : "";
}

}  // namespace

std::string progress_bar(double share, int columns, bool unicode) {
  const Glyphs& glyph = glyphs(unicode);
  const double bounded = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const int full = static_cast<int>(bounded * columns + 1e-9);  // full only at the end
  std::string bar;
  for (int i = 0; i < columns; ++i) bar += i < full ? glyph.bar_done : glyph.bar_rest;
  return bar;
}

void RunModel::on_plan(const plan::Plan& plan) {
  const Schedule schedule = schedule_of(plan);
  const bool with_node = !schedule.lanes.empty() && !single_node(schedule);
  planned_.clear();
  for (const Bar& bar : schedule.bars) {
    const double start_s = plan.origin_s + bar.start_s;
    const auto [found, is_new] = planned_.try_emplace(schedule.jobs[bar.job]);
    Planned& planned = found->second;
    if (is_new || start_s < planned.start_s) {
      planned.start_s = start_s;
      planned.configuration = configuration_text(bar);
      planned.devices = lanes_text(schedule, bar.lanes, with_node);
    }
    planned.end_s = std::max(planned.end_s, start_s + bar.duration_s);
    planned.device_s += bar.duration_s * static_cast<double>(bar.lanes.size());
  }
  end_s_ = plan.origin_s + plan.makespan_s;
}

void RunModel::on_step(const std::string& job, const journal::StepReport& report,
                       const journal::RunState& state) {
  const journal::JobRecord* record = state.find(job);
  const int attempt =
      record != nullptr && record->last_attempt() != nullptr ? record->last_attempt()->number : 0;
  Measured& measured = measured_[job];
  if (measured.attempt != attempt) measured = {.attempt = attempt};
  constexpr double kKept = 0.9;  // of the smoothed step time at every step
  measured.step_time_s = measured.step_time_s > 0
                             ? kKept * measured.step_time_s + (1 - kKept) * report.step_time_s
                             : report.step_time_s;
  measured.step = report.step;
  measured.loss = report.loss;
  measured.tokens = report.tokens > 0;
  measured.units = static_cast<double>(measured.tokens ? report.tokens : report.samples);
}

RunView RunModel::view(const journal::RunState& state, double time_s) const {
  RunView run{.batch = state.batch_name, .time_s = time_s};
  double device_s = 0.0;
  double device_s_done = 0.0;
  for (const journal::JobRecord& record : state.jobs) {
    JobView job{.name = record.name,
                .state = record.state,
                .reason = record.reason,
                .step = record.step,
                .num_steps = record.num_steps,
                .loss = record.train_loss,
                .step_time_s = record.step_time_s,
                .time_s = record.time_s(time_s),
                .attempts = record.first_attempt - 1 + static_cast<int>(record.attempts.size())};
    const auto validation = record.metrics.find("validation_loss");
    if (validation != record.metrics.end()) job.validation_loss = validation->second;

    // 1. Where it runs: as it was started, else as planned.
    const auto planned = planned_.find(record.name);
    const journal::Attempt* attempt = record.last_attempt();
    if (attempt != nullptr) {
      Schedule where;
      Bar bar{.technique = attempt->technique, .num_ranks = attempt->num_ranks};
      for (const plan::Device& device : attempt->devices) {
        bar.lanes.push_back(where.lanes.size());
        where.lanes.push_back({device.node, device.index});
      }
      job.configuration = configuration_text(bar);
      job.devices = lanes_text(where, bar.lanes, false);
    } else if (planned != planned_.end()) {
      job.configuration = planned->second.configuration;
      job.devices = planned->second.devices;
    }

    // 2. What its steps say, which the journal knows only now and then.
    const auto measured = measured_.find(record.name);
    if (measured != measured_.end() && attempt != nullptr && measured->second.attempt == attempt->number) {
      job.step = std::max(job.step, measured->second.step);
      job.loss = measured->second.loss;
      job.step_time_s = measured->second.step_time_s;
      job.unit = measured->second.tokens ? "tok/s" : "samples/s";
      if (job.step_time_s > 0) job.units_per_s = measured->second.units / job.step_time_s;
    }

    // 3. When it will be over, or begin.
    const bool training = record.state == JobState::training || record.state == JobState::saving;
    if (training && job.step_time_s > 0)
      job.eta_s = static_cast<double>(std::max<std::int64_t>(0, job.num_steps - job.step)) * job.step_time_s;
    if (record.state == JobState::pending && planned != planned_.end())
      job.starts_in_s = std::max(0.0, planned->second.start_s - time_s);
    if (job.eta_s) run.eta_s = std::max(run.eta_s.value_or(0.0), *job.eta_s);

    const double weight = planned != planned_.end() ? planned->second.device_s : 0.0;
    const bool over = journal::is_final(record.state);
    const double share = over || job.num_steps == 0
                             ? (over ? 1.0 : 0.0)
                             : static_cast<double>(job.step) / static_cast<double>(job.num_steps);
    device_s += weight;
    device_s_done += weight * share;
    run.num_done += record.state == JobState::done ? 1 : 0;
    run.num_stopped_early += record.state == JobState::stopped_early ? 1 : 0;
    run.num_failed += record.state == JobState::failed ? 1 : 0;
    run.num_cancelled += record.state == JobState::cancelled ? 1 : 0;
    run.jobs.push_back(std::move(job));
  }
  const bool waiting = std::any_of(run.jobs.begin(), run.jobs.end(), [](const JobView& job) {
    return job.state == JobState::pending || job.state == JobState::starting;
  });
  if (end_s_ > 0 && (waiting || !run.eta_s)) run.eta_s = std::max(run.eta_s.value_or(0.0), end_s_ - time_s);
  if (state.all_final()) run.eta_s.reset();
  run.share =
      device_s > 0 ? device_s_done / device_s
      : run.jobs.empty()
          ? 0.0
          : static_cast<double>(run.num_done + run.num_stopped_early + run.num_failed + run.num_cancelled) /
                static_cast<double>(run.jobs.size());
  return run;
}

std::vector<std::string> run_frame(const RunView& run, const Terminal& terminal, std::size_t most_lines) {
  const int bar_columns = terminal.width < 70 ? 8 : terminal.width < 100 ? 12 : 20;
  Table table({{.title = "job", .shrinks = true},
               {.title = "state", .drop_order = 5},
               {.title = "progress"},
               {.title = "step", .align = Align::right, .drop_order = 6},
               {.title = "loss", .align = Align::right, .drop_order = 7},
               {.title = "rate", .align = Align::right, .drop_order = 4},
               {.title = "throughput", .align = Align::right, .drop_order = 1},
               {.title = "time", .align = Align::right, .drop_order = 8},
               {.title = "runs as", .drop_order = 2},
               {.title = "validation", .align = Align::right, .drop_order = 3}});
  std::vector<const JobView*> order;
  for (const JobView& job : run.jobs) order.push_back(&job);
  std::stable_sort(order.begin(), order.end(), [](const JobView* a, const JobView* b) {
    if (frame_rank(a->state) != frame_rank(b->state)) return frame_rank(a->state) < frame_rank(b->state);
    return a->starts_in_s.value_or(0.0) < b->starts_in_s.value_or(0.0);
  });
  constexpr std::size_t kOtherLines = 3;  // the head, the titles, the count of what is not shown
  const std::size_t room = most_lines > kOtherLines ? most_lines - kOtherLines : 0;
  const std::size_t shown = order.size() <= room + 1 ? std::min(order.size(), room + 1) : room;
  for (std::size_t i = 0; i < shown; ++i) {
    const JobView& job = *order[i];
    const double share =
        job.num_steps > 0 ? static_cast<double>(job.step) / static_cast<double>(job.num_steps) : 0.0;
    const bool moving = frame_rank(job.state) == 0;
    table.add({job.name, journal::to_string(job.state), progress_bar(share, bar_columns, terminal.unicode),
               std::to_string(job.step) + "/" + std::to_string(job.num_steps),
               job.loss ? text_of("%.3f", *job.loss) : "", moving ? step_rate_text(job.step_time_s) : "",
               moving && job.units_per_s > 0 ? format_count(job.units_per_s) + " " + job.unit : "",
               when_text(job), job.configuration + (job.devices.empty() ? "" : " on " + job.devices),
               job.validation_loss ? text_of("%.3f", *job.validation_loss) : ""});
  }
  std::vector<std::string> lines = {head_line(run, terminal)};
  const std::string rows = shown > 0 ? table.text(terminal) : "";
  for (std::size_t from = 0; from < rows.size();) {
    const std::size_t end = rows.find('\n', from);
    lines.push_back(rows.substr(from, end - from));
    from = end + 1;
  }
  if (shown < order.size())
    lines.push_back(
        fitted(std::to_string(order.size() - shown) + " more jobs", terminal.width, terminal.unicode));
  if (lines.size() > most_lines) lines.resize(std::max<std::size_t>(1, most_lines));
  return lines;
}

}  // namespace saturn::view
