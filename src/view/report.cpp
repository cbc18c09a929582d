// The page, from the journal, the plan in force and the metrics.

#include "saturn/view/report.h"

#include <sys/stat.h>

#include <cmath>
#include <cstdio>
#include <fstream>

#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/base/version.h"
#include "saturn/view/gantt_text.h"
#include "saturn/view/text.h"

namespace saturn::view {
namespace {

// Averages neighbours so that any number of points becomes at most kMost.
class Thinner {
 public:
  void add(double x, double y) {
    sum_x_ += x;
    sum_y_ += y;
    if (++count_ < per_point_) return;
    push();
    if (points_.size() <= kMost) return;
    std::vector<Point> halved;
    for (std::size_t i = 0; i + 1 < points_.size(); i += 2)
      halved.push_back({(points_[i].x + points_[i + 1].x) / 2, (points_[i].y + points_[i + 1].y) / 2});
    if (points_.size() % 2 == 1) {  // the odd one waits for its neighbour
      sum_x_ = points_.back().x * static_cast<double>(per_point_);
      sum_y_ = points_.back().y * static_cast<double>(per_point_);
      count_ = per_point_;
    }
    points_ = std::move(halved);
    per_point_ *= 2;
  }

  std::vector<Point> take() {
    if (count_ > 0) push();
    return std::move(points_);
  }

 private:
  static constexpr std::size_t kMost = 1000;

  void push() {
    points_.push_back({sum_x_ / static_cast<double>(count_), sum_y_ / static_cast<double>(count_)});
    sum_x_ = sum_y_ = 0.0;
    count_ = 0;
  }

  std::vector<Point> points_;
  std::size_t per_point_ = 1;
  std::size_t count_ = 0;
  double sum_x_ = 0.0;
  double sum_y_ = 0.0;
};

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --fg: #1c2024; --bg: #fff; --soft: #d9dde1; --card: #f6f7f8; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e4e7ea; --bg: #16191c; --soft: #3a4046; --card: #1f2327; }
}
body { font: 14px/1.45 system-ui, sans-serif; color: var(--fg); background: var(--bg); max-width: 1080px;
       margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0.2em; }
h2 { font-size: 1.1em; margin: 2em 0 0.5em; }
.facts { display: flex; flex-wrap: wrap; gap: 0.6em; }
.facts div { background: var(--card); padding: 0.5em 0.9em; border-radius: 6px; }
.facts b { display: block; font-size: 1.25em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.25em 0.7em 0.25em 0; border-bottom: 1px solid var(--soft);
         white-space: nowrap; }
td.n, th.n { text-align: right; }
tr.best td { font-weight: 600; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; margin-right: 0.5em; }
pre { background: var(--card); padding: 0.8em; border-radius: 6px; overflow-x: auto; }
body > svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--fg); font-family: system-ui, sans-serif; }
svg text.inside { fill: #fff; }
.grid { stroke: var(--soft); }
.level { stroke: var(--fg); stroke-dasharray: 4 4; opacity: 0.6; }
.failed { stroke: #d22; stroke-width: 2; stroke-dasharray: 4 2; fill-opacity: 0.45; }
.stopped { fill-opacity: 0.6; }
footer { margin-top: 3em; opacity: 0.6; }
)";

std::string number_text(std::optional<double> value, const char* format) {
  if (!value || !std::isfinite(*value)) return "";
  char text[48];
  std::snprintf(text, sizeof text, format, *value);
  return text;
}

std::optional<double> metric(const journal::JobSummary& job, const std::string& name) {
  const auto found = job.validation.find(name);
  return found == job.validation.end() ? std::nullopt : std::optional(found->second);
}

std::string fact(const std::string& name, const std::string& value) {
  return "<div>" + xml_escaped(name) + "<b>" + xml_escaped(value) + "</b></div>\n";
}

std::string facts(const journal::Summary& summary) {
  std::size_t num_done = 0;
  for (const journal::JobSummary& job : summary.jobs)
    num_done += job.state == journal::JobState::done ? 1 : 0;
  std::string out = "<div class=\"facts\">\n";
  out += fact("outcome", summary.outcome);
  out += fact("jobs done", std::to_string(num_done) + " of " + std::to_string(summary.jobs.size()));
  out += fact("makespan, measured", format_duration(summary.makespan_s));
  if (summary.predicted_makespan_s)
    out += fact("makespan, predicted", format_duration(*summary.predicted_makespan_s));
  const auto error = summary.prediction_error();  // says nothing of a run that is not whole
  if (error && num_done == summary.jobs.size())
    out += fact("error of the prediction", number_text(100 * *error, "%+.1f %%"));
  if (summary.best_job) out += fact("best job", *summary.best_job);
  return out + "</div>\n";
}

std::string cell(const std::string& text, bool number = false) {
  return (number ? "<td class=\"n\">" : "<td>") + xml_escaped(text) + "</td>";
}

std::string job_row(const journal::JobSummary& job, std::size_t color, bool best) {
  std::string techniques;
  for (const std::string& technique : job.techniques)
    techniques += (techniques.empty() ? "" : ", then ") + technique;
  const std::optional<double> loss = metric(job, "loss");
  const std::optional<double> unigram = metric(job, "unigram_loss");
  std::optional<double> ratio;
  if (loss && unigram && *unigram > 0) ratio = 100 * (*loss / *unigram - 1);
  std::optional<double> accuracy = metric(job, "accuracy");
  if (accuracy) *accuracy *= 100;
  std::optional<double> error;
  if (job.predicted_time_s && job.last_attempt_s && *job.last_attempt_s > 0)
    error = 100 * (*job.predicted_time_s / *job.last_attempt_s - 1);
  std::string state = journal::to_string(job.state);
  if (!job.reason.empty()) state += ": " + job.reason;
  if (const std::string trouble = job.trouble(); !trouble.empty()) state += "; " + trouble;
  return std::string(best ? "<tr class=\"best\">" : "<tr>") +
         "<td><span class=\"swatch\" style=\"background:" + job_color(color) + "\"></span>" +
         xml_escaped(job.name) + (best ? " ★" : "") + "</td>" + cell(state) + cell(techniques) +
         cell(std::to_string(job.steps) + " of " + std::to_string(job.num_steps), true) +
         cell(std::to_string(job.attempts), true) +
         cell(job.predicted_time_s ? format_duration(*job.predicted_time_s) : "", true) +
         cell(job.attempts > 0 ? format_duration(job.last_attempt_s.value_or(job.time_s)) : "", true) +
         cell(number_text(error, "%+.1f %%"), true) + cell(number_text(job.train_loss, "%.4f"), true) +
         cell(number_text(loss, "%.4f"), true) + cell(number_text(ratio, "%+.1f %%"), true) +
         cell(number_text(accuracy, "%.2f %%"), true) + "</tr>\n";
}

std::string job_table(const journal::Summary& summary) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>job</th><th>state</th><th>technique</th><th class=\"n\">steps</th>"
      "<th class=\"n\">attempts</th><th class=\"n\">planned</th><th class=\"n\">took</th><th "
      "class=\"n\">error</th>"
      "<th class=\"n\">train loss</th><th class=\"n\">validation loss</th><th class=\"n\">against "
      "unigram</th><th class=\"n\">accuracy</th></tr>\n";
  for (std::size_t j = 0; j < summary.jobs.size(); ++j)
    out += job_row(summary.jobs[j], j, summary.best_job == summary.jobs[j].name);
  return out + "</table></div>\n";
}

std::string curves(const Report& report) {
  std::vector<Curve> train;
  std::vector<Curve> validation;
  CurveOptions validation_options{.x_title = "step", .y_title = "validation loss", .markers = true};
  for (std::size_t j = 0; j < report.summary.jobs.size() && j < report.metrics.size(); ++j) {
    const journal::JobSummary& job = report.summary.jobs[j];
    const bool best = report.summary.best_job == job.name;
    train.push_back({job.name, j, best, report.metrics[j].train});
    validation.push_back({job.name, j, best, report.metrics[j].validation});
    const std::optional<double> unigram = metric(job, "unigram_loss");
    const bool is_new =
        unigram && std::isfinite(*unigram) &&
        (validation_options.levels.empty() ||
         std::abs(validation_options.levels.back().second - *unigram) > 1e-6 * std::abs(*unigram));
    constexpr std::size_t kMostLevels = 4;
    if (is_new && validation_options.levels.size() < kMostLevels)
      validation_options.levels.emplace_back("unigram", *unigram);
  }
  const std::string train_svg = curves_svg(train, {.x_title = "step", .y_title = "train loss"});
  const std::string validation_svg = curves_svg(validation, validation_options);
  std::string out;
  if (!train_svg.empty()) out += "<h2>Train loss</h2>\n" + train_svg;
  if (!validation_svg.empty()) out += "<h2>Validation loss</h2>\n" + validation_svg;
  return out;
}

std::string plan_list(const std::vector<journal::PlanRecord>& plans) {
  std::string out = "<ol start=\"0\">\n";
  for (const journal::PlanRecord& plan : plans) {
    out +=
        "<li>" +
        xml_escaped(plan.file + " at " + format_duration(plan.time_s) + ": makespan " +
                    format_duration(plan.makespan_s) + ", at least " + format_duration(plan.lower_bound_s) +
                    (plan.reason.empty() ? "" : "; " + plan.reason)) +
        "</li>\n";
  }
  return out + "</ol>\n";
}

void shift(Schedule& schedule, double by_s) {
  for (Bar& bar : schedule.bars) bar.start_s += by_s;
  schedule.zero.clear();
}

}  // namespace

Result<Metrics> read_metrics(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 && errno == ENOENT) return Metrics{};
  std::ifstream file(path, std::ios::binary);
  if (!file) return system_fault(path, "read", errno);
  Thinner train;
  Thinner validation;
  std::string line;
  while (std::getline(file, line)) {
    if (file.eof()) break;  // no newline: still being written
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object()) continue;
    const auto number = [&](const char* key) -> std::optional<double> {
      const auto found = entry.find(key);
      if (found == entry.end() || !found->is_number()) return std::nullopt;
      return found->get<double>();
    };
    const std::optional<double> step = number("step");
    if (!step) continue;
    if (const auto loss = number("loss")) train.add(*step, *loss);
    if (const auto loss = number("validation_loss")) validation.add(*step, *loss);
  }
  if (file.bad()) return system_fault(path, "read", EIO);
  return Metrics{train.take(), validation.take()};
}

std::string report_html(const Report& report) {
  const journal::Summary& summary = report.summary;
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      xml_escaped(summary.batch) + "</title>\n<style>" + kStyle + "</style></head>\n<body>\n<h1>" +
      xml_escaped(summary.batch) + "</h1>\n" + facts(summary);
  out += "<h2>Jobs</h2>\n" + job_table(summary);

  Schedule measured = report.measured;
  if (report.planned) {
    Schedule planned = *report.planned;
    align(measured, planned);  // the run knows the batch's order, which gives the colours
    const double horizon_s = std::max(end_s(planned), end_s(measured));
    out += "<h2>Schedule as planned</h2>\n" + gantt_svg(planned, horizon_s);
    out += "<h2>Schedule as measured</h2>\n" + gantt_svg(measured, horizon_s);
    if (planned.certificate)
      out += "<h2>How good the plan is</h2>\n<pre>" + [&] {
        std::string text;
        const std::string lines = certificate_text(*planned.certificate, {.width = 100, .unicode = true});
        for (std::size_t from = 0; from < lines.size();) {
          const std::size_t end = lines.find('\n', from);
          text += xml_escaped(std::string_view(lines).substr(from, end - from)) + "\n";
          from = end + 1;
        }
        return text;
      }() + "</pre>\n";
  } else {
    out += "<h2>Schedule as measured</h2>\n" + gantt_svg(measured);
  }
  if (report.plans.size() > 1) out += "<h2>Plans</h2>\n" + plan_list(report.plans);
  out += curves(report);
  return out + "<footer>saturn " + version() + "</footer>\n</body></html>\n";
}

Result<std::string> write_report(const journal::RunPaths& paths) {
  SATURN_TRY(const journal::RunState state, journal::read_run_state(paths));
  Report report{.summary = journal::summarise(state),
                .planned = {},
                .measured = schedule_of(state, state.time_s),
                .metrics = {},
                .plans = state.plans};
  report.measured.title = "Schedule as measured";
  if (const journal::PlanRecord* const record = state.first_plan_of_last_controller()) {
    SATURN_TRY(const plan::Plan plan, plan::read_plan(join_path(paths.root(), file_name_of(record->file))));
    report.planned = schedule_of(plan);
    report.planned->title = "Schedule as planned";
    shift(*report.planned, plan.origin_s);
  }
  for (const journal::JobSummary& job : report.summary.jobs) {
    SATURN_TRY(Metrics metrics, read_metrics(paths.metrics(job.name)));
    report.metrics.push_back(std::move(metrics));
  }
  SATURN_TRY_VOID(write_whole(paths.report(), report_html(report)));
  return paths.report();
}

}  // namespace saturn::view
