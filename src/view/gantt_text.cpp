// Bars into character cells.

#include "saturn/view/gantt_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "saturn/base/units.h"
#include "saturn/view/axis.h"
#include "saturn/view/text.h"
#include "view/paint.h"

namespace saturn::view {
namespace {

// One line of the chart: lanes that run the same bars.
struct Row {
  std::vector<std::size_t> lanes;
  std::vector<std::size_t> bars;  // by start
};

// A bar's cells in one row: [from, to).
struct Span {
  std::size_t bar;
  int from;
  int to;
};

std::vector<std::vector<std::size_t>> bars_of_lanes(const Schedule& schedule) {
  std::vector<std::vector<std::size_t>> bars(schedule.lanes.size());
  for (const std::size_t bar : reading_order(schedule)) {
    for (const std::size_t lane : schedule.bars[bar].lanes) bars[lane].push_back(bar);
  }
  return bars;
}

std::vector<Row> rows_of(const Schedule& schedule) {
  std::vector<std::vector<std::size_t>> bars = bars_of_lanes(schedule);
  std::vector<Row> rows;
  for (std::size_t lane = 0; lane < schedule.lanes.size(); ++lane) {
    const bool joins = !rows.empty() && rows.back().bars == bars[lane] &&
                       schedule.lanes[rows.back().lanes.front()].node == schedule.lanes[lane].node;
    if (joins)
      rows.back().lanes.push_back(lane);
    else
      rows.push_back({{lane}, std::move(bars[lane])});
  }
  return rows;
}

class Chart {
 public:
  Chart(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options)
      : schedule_(schedule),
        terminal_(terminal),
        options_(options),
        glyphs_(glyphs(terminal.unicode)),
        keys_(job_keys(schedule)),
        horizon_s_(std::max(end_s(schedule), options.horizon_s)),
        named_(schedule.bars.size(), false) {
    std::size_t given = 0;
    ranks_.assign(schedule.jobs.size(), schedule.jobs.size());
    for (const std::size_t bar : reading_order(schedule)) {
      std::size_t& rank = ranks_[schedule.bars[bar].job];
      if (rank == schedule.jobs.size()) rank = given++;
    }
  }

  std::string text() {
    std::vector<Row> rows = rows_of(schedule_);
    return rows.size() <= options_.most_rows ? bars_text(rows) : shares_text();
  }

 private:
  // A row per group of devices with the same bars.
  std::string bars_text(const std::vector<Row>& rows) {
    std::vector<std::string> labels;
    for (const Row& row : rows) labels.push_back(lanes_text(schedule_, row.lanes, true));
    const int cap = label_cap();
    if (single_node(schedule_) && widest(labels) > cap) {
      for (std::size_t i = 0; i < rows.size(); ++i) labels[i] = lanes_text(schedule_, rows[i].lanes, false);
    }
    begin(labels);
    std::string out;
    for (std::size_t i = 0; i < rows.size(); ++i) out += line(labels[i], cells(rows[i]));
    return out + axis();
  }

  // A row per node, or per group of nodes where there are many: how much of it is busy.
  std::string shares_text() {
    struct Group {
      std::string label;
      std::size_t num_nodes = 0;
      std::vector<std::size_t> lanes;
    };
    std::vector<Group> nodes;
    for (std::size_t lane = 0; lane < schedule_.lanes.size(); ++lane) {
      const std::string& name = schedule_.lanes[lane].node;
      if (nodes.empty() || nodes.back().label != name) nodes.push_back({name, 1, {}});
      nodes.back().lanes.push_back(lane);
    }
    const std::size_t most = std::max<std::size_t>(1, options_.most_rows);
    const std::size_t share = (nodes.size() + most - 1) / most;
    std::vector<Group> groups;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (i % share == 0) groups.push_back({nodes[i].label, 0, {}});
      ++groups.back().num_nodes;
      groups.back().lanes.insert(groups.back().lanes.end(), nodes[i].lanes.begin(), nodes[i].lanes.end());
    }
    std::vector<std::string> labels;
    for (const Group& group : groups) {
      const std::string more = group.num_nodes > 1 ? "+" + std::to_string(group.num_nodes - 1) : "";
      labels.push_back(group.label + more + " (" + std::to_string(group.lanes.size()) + ")");
    }
    begin(labels);
    const std::vector<std::vector<std::size_t>> bars = bars_of_lanes(schedule_);
    std::string out;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      std::vector<double> busy(static_cast<std::size_t>(columns_), 0.0);
      for (const std::size_t lane : groups[i].lanes) {
        for (const std::size_t bar : bars[lane]) add_busy(schedule_.bars[bar], busy);
      }
      std::string row;
      for (const double cell : busy) {
        const double level = cell / static_cast<double>(groups[i].lanes.size());
        const int index = std::clamp(static_cast<int>(std::ceil(level * 8 - 1e-6)) - 1, -1, 7);
        row += index < 0 ? " " : glyphs_.levels[static_cast<std::size_t>(index)];
      }
      out += line(labels[i], row);
    }
    out += axis();
    const std::string note =
        "Each row is a node with its number of devices, each column how many of them are busy.";
    for (const std::string& part : wrapped(note, terminal_.width, terminal_.unicode)) out += part + "\n";
    return out;
  }

  // The share of each cell's time that `bar` covers.
  void add_busy(const Bar& bar, std::vector<double>& busy) const {
    const double from = position(bar.start_s);
    const double to = position(bar.start_s + bar.duration_s);
    for (int c = std::max(0, static_cast<int>(from)); c < columns_ && c < to; ++c)
      busy[static_cast<std::size_t>(c)] += std::max(0.0, std::min(to, c + 1.0) - std::max(from, c + 0.0));
  }

  int label_cap() const { return std::max(4, std::min(20, terminal_.width / 4)); }

  static int widest(const std::vector<std::string>& labels) {
    int width = 0;
    for (const std::string& label : labels) width = std::max(width, columns_of(label));
    return width;
  }

  void begin(const std::vector<std::string>& labels) {
    label_width_ = std::min(label_cap(), widest(labels));
    columns_ = terminal_.width - label_width_ - 2;
  }

  std::string line(const std::string& label, const std::string& cells) const {
    std::string out =
        padded(fitted(label, label_width_, terminal_.unicode), label_width_) + " " + glyphs_.wall + cells;
    if (!terminal_.color) out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  }

  double position(double time_s) const { return horizon_s_ > 0 ? time_s / horizon_s_ * columns_ : 0.0; }

  int column(double time_s) const {
    return std::clamp(static_cast<int>(std::floor(position(time_s) + 0.5)), 0, columns_);
  }

  // Every bar gets at least one cell: short ones push their followers right, and the end pushes them back.
  // Nothing where there are more bars than cells.
  std::vector<Span> place(const Row& row) const {
    std::vector<Span> spans;
    if (row.bars.size() > static_cast<std::size_t>(columns_)) return spans;
    int free_from = 0;
    for (const std::size_t bar : row.bars) {
      const int from = std::max(column(schedule_.bars[bar].start_s), free_from);
      const int to = std::max(column(schedule_.bars[bar].start_s + schedule_.bars[bar].duration_s), from + 1);
      spans.push_back({bar, from, to});
      free_from = to;
    }
    int limit = columns_;
    for (auto span = spans.rbegin(); span != spans.rend() && span->to > limit; ++span) {
      span->to = limit;
      span->from = std::min(span->from, limit - 1);
      limit = span->from;
    }
    return spans;
  }

  std::string cells(const Row& row) {
    const std::vector<Span> spans = place(row);
    if (spans.empty() && !row.bars.empty()) return crowded_cells(row);
    std::string out;
    int at = 0;
    for (const Span& span : spans) {
      out += std::string(static_cast<std::size_t>(span.from - at), ' ');
      out += painted(bar_cells(span), ranks_[schedule_.bars[span.bar].job], terminal_.color);
      at = span.to;
    }
    return out + std::string(static_cast<std::size_t>(columns_ - at), ' ');
  }

  // More bars than cells: the key of the only job in a cell, or the sign for several.
  std::string crowded_cells(const Row& row) const {
    constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    constexpr std::size_t kSeveral = static_cast<std::size_t>(-2);
    std::vector<std::size_t> owners(static_cast<std::size_t>(columns_), kNone);
    for (const std::size_t index : row.bars) {
      const Bar& bar = schedule_.bars[index];
      const int from = std::min(columns_ - 1, static_cast<int>(position(bar.start_s)));
      const double to = position(bar.start_s + bar.duration_s);
      for (int c = from; c < columns_ && (c == from || c < to); ++c) {
        std::size_t& owner = owners[static_cast<std::size_t>(c)];
        owner = owner == kNone || owner == bar.job ? bar.job : kSeveral;
      }
    }
    std::string out;
    for (const std::size_t owner : owners)
      out += owner == kNone ? " " : owner == kSeveral ? glyphs_.crowded : one_cell(keys_[owner]);
    return out;
  }

  std::string crowded(int columns) const {
    std::string out;
    for (int c = 0; c < columns; ++c) out += glyphs_.crowded;
    return out;
  }

  std::string one_cell(const std::string& key) const { return columns_of(key) == 1 ? key : glyphs_.crowded; }

  std::string bar_cells(const Span& span) {
    const Bar& bar = schedule_.bars[span.bar];
    const std::string& key = keys_[bar.job];
    const char* close = bar.outcome == "failed"    ? glyphs_.failed
                        : bar.outcome == "running" ? glyphs_.running
                                                   : glyphs_.close;
    const int width = span.to - span.from;
    if (width == 1) return one_cell(key);
    const int inside = width - 2;
    if (inside < columns_of(key))
      return inside + 1 >= columns_of(key) ? padded(key, inside + 1) + close : crowded(inside + 1) + close;
    std::string label = label_of(span.bar, inside);
    const int rest = inside - columns_of(label);
    for (int i = 0; i < rest; ++i) label += glyphs_.fill;
    return glyphs_.open + label + close;
  }

  // The most telling label that fits; in full once per bar, then the key.
  std::string label_of(std::size_t index, int columns) {
    const Bar& bar = schedule_.bars[index];
    const std::string& key = keys_[bar.job];
    if (named_[index]) return key;
    named_[index] = true;
    const std::string name = printable(schedule_.jobs[bar.job], terminal_.unicode);
    const std::string short_label = key + " " + name;
    const std::string long_label = short_label + " " + printable(configuration_text(bar), terminal_.unicode);
    if (columns_of(long_label) <= columns) return long_label;
    if (columns_of(short_label) <= columns) return short_label;
    constexpr int kLeastName = 5;
    const int room = columns - columns_of(key) - 1;
    return room >= kLeastName ? key + " " + fitted(name, room, terminal_.unicode) : key;
  }

  // The ruler, and labels that start at their tick.
  std::string axis() const {
    constexpr int kColumnsPerTick = 10;
    std::vector<std::string> ruler(static_cast<std::size_t>(columns_), glyphs_.line);
    std::string labels;
    for (const Tick& tick : time_ticks(horizon_s_, std::max(2, columns_ / kColumnsPerTick))) {
      const int at = std::min(column(tick.value), columns_ - 1);
      ruler[static_cast<std::size_t>(at)] = glyphs_.tick;
      const int used = columns_of(labels);
      const bool fits = at + columns_of(tick.label) <= columns_ && (used == 0 || used < at);
      if (fits) labels += std::string(static_cast<std::size_t>(at - used), ' ') + tick.label;
    }
    const std::string margin(static_cast<std::size_t>(label_width_ + 1), ' ');
    std::string out = margin + glyphs_.corner;
    for (const std::string& cell : ruler) out += cell;
    return out + "\n" + margin + " " + labels + "\n";
  }

  const Schedule& schedule_;
  const Terminal& terminal_;
  const GanttOptions& options_;
  const Glyphs& glyphs_;
  std::vector<std::string> keys_;
  std::vector<std::size_t> ranks_;  // of each job, for its colour
  double horizon_s_;
  std::vector<bool> named_;
  int label_width_ = 0;
  int columns_ = 0;  // of the chart
};

std::string steps_text(const Bar& bar) {
  if (!bar.to_step) return "";
  const std::int64_t from = bar.from_step.value_or(0);
  return from == 0 ? std::to_string(*bar.to_step) : std::to_string(from) + "-" + std::to_string(*bar.to_step);
}

std::string with_seconds(double seconds) {
  constexpr double kShownInSeconds = 99.95;
  const std::string text = format_duration(seconds);
  return seconds < kShownInSeconds ? text : text + " (" + format_number(seconds, 7) + " s)";
}

}  // namespace

std::string gantt_text(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options) {
  return Chart(schedule, terminal, options).text();
}

std::string legend_text(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options) {
  const std::vector<std::string> keys = job_keys(schedule);
  const bool with_node = !schedule.lanes.empty() && !single_node(schedule);
  Table table({{.title = "", .align = Align::right},
               {.title = "job", .shrinks = true},
               {.title = "technique", .shrinks = true},
               {.title = "devices", .shrinks = true, .drop_order = 3},
               {.title = "start", .align = Align::right, .drop_order = 2},
               {.title = "duration", .align = Align::right},
               {.title = "steps", .align = Align::right, .drop_order = 1},
               {.title = "outcome"}});
  const std::vector<std::size_t> order = reading_order(schedule);
  const std::size_t shown = std::min(order.size(), options.most_legend);
  for (std::size_t i = 0; i < shown; ++i) {
    const Bar& bar = schedule.bars[order[i]];
    table.add({keys[bar.job], schedule.jobs[bar.job], configuration_text(bar),
               lanes_text(schedule, bar.lanes, with_node), format_duration(bar.start_s),
               format_duration(bar.duration_s), steps_text(bar), bar.outcome});
  }
  std::string out = table.text(terminal);
  if (shown < order.size()) {
    const std::string more = std::to_string(order.size() - shown) + " more, later; --table lists all";
    for (const std::string& line : wrapped(more, terminal.width, terminal.unicode)) out += line + "\n";
  }
  return out;
}

std::string certificate_text(const Certificate& certificate, const Terminal& terminal) {
  std::string out;
  const auto say = [&](const std::string& name, const std::string& text) {
    constexpr int kNameColumns = 13;
    const int indent = terminal.width >= 3 * kNameColumns ? kNameColumns : 2;
    std::string first = padded(name, indent);
    if (columns_of(name) >= indent) {
      out += name + "\n";
      first = std::string(static_cast<std::size_t>(indent), ' ');
    }
    for (const std::string& line : wrapped(text, terminal.width - indent, terminal.unicode)) {
      out += first + line + "\n";
      first = std::string(static_cast<std::size_t>(indent), ' ');
    }
  };
  const auto with = [](const std::string& before, const std::string& text) {
    return text.empty() ? "" : before + text;
  };
  say("makespan", with_seconds(certificate.makespan_s) + with(", found by ", certificate.found_by));
  say("lower bound", with_seconds(certificate.lower_bound_s) + with(", proved by ", certificate.bound_by));
  if (!certificate.objective.empty()) say("objective", certificate.objective);
  const std::string gap =
      std::isfinite(certificate.gap) ? format_percent(certificate.gap, 2) : std::string("unknown");
  say("gap", gap + with(", ", certificate.status));
  if (!certificate.solver.empty()) say("solver", certificate.solver);
  std::vector<std::pair<std::string, double>> baselines = certificate.baselines;
  std::stable_sort(baselines.begin(), baselines.end(),
                   [](const auto& a, const auto& b) { return a.second < b.second; });
  bool first = true;
  for (const auto& [policy, makespan_s] : baselines) {
    const double ratio = certificate.makespan_s > 0 ? makespan_s / certificate.makespan_s : 0.0;
    char ratio_text[32];
    std::snprintf(ratio_text, sizeof ratio_text, "%.2fx", ratio);
    say(first ? "baselines" : "",
        std::string(ratio_text) + " " + policy + ", " + format_duration(makespan_s));
    first = false;
  }
  return out;
}

std::string schedule_text(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options) {
  std::string out;
  if (!schedule.title.empty()) {
    for (const std::string& line : wrapped(schedule.title, terminal.width, terminal.unicode))
      out += bold(line, terminal.color) + "\n";
    out += "\n";
  }
  out += gantt_text(schedule, terminal, options);
  if (!schedule.zero.empty()) {
    for (const std::string& line : wrapped(schedule.zero, terminal.width, terminal.unicode))
      out += line + "\n";
  }
  out += "\n" + legend_text(schedule, terminal, options);
  if (schedule.certificate) out += "\n" + certificate_text(*schedule.certificate, terminal);
  return out;
}

}  // namespace saturn::view
