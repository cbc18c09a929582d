// Rectangles, lines and text.

#include "saturn/view/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "saturn/base/units.h"
#include "saturn/view/axis.h"
#include "saturn/view/text.h"

namespace saturn::view {
namespace {

constexpr double kWidth = 1000;

// A coordinate with two decimals and no locale.
std::string at(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", std::isfinite(value) ? value : 0.0);
  std::string out = text;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out == "-0" ? "0" : out;
}

std::string opening(double height, const std::string& label) {
  return "<svg viewBox=\"0 0 " + at(kWidth) + " " + at(height) + "\" role=\"img\" aria-label=\"" +
         xml_escaped(label) + "\" font-size=\"11\">\n";
}

std::string text_at(double x, double y, const std::string& content, const char* anchor = "start") {
  return "<text x=\"" + at(x) + "\" y=\"" + at(y) + "\" text-anchor=\"" + anchor + "\">" +
         xml_escaped(content) + "</text>\n";
}

std::string line_of(const char* css_class, Point from, Point to) {
  return std::string("<line class=\"") + css_class + "\" x1=\"" + at(from.x) + "\" y1=\"" + at(from.y) +
         "\" x2=\"" + at(to.x) + "\" y2=\"" + at(to.y) + "\"/>\n";
}

std::string tooltip(const Schedule& schedule, const Bar& bar) {
  std::string text = schedule.jobs[bar.job] + "\n" + configuration_text(bar) + " on " +
                     lanes_text(schedule, bar.lanes, true) + "\n" + format_duration(bar.start_s) + " to " +
                     format_duration(bar.start_s + bar.duration_s) + " (" + format_duration(bar.duration_s) +
                     ")";
  if (bar.to_step)
    text += "\nsteps " + std::to_string(bar.from_step.value_or(0)) + " to " + std::to_string(*bar.to_step);
  if (!bar.outcome.empty()) text += "\n" + bar.outcome;
  return text;
}

// xml_escaped would replace the line breaks of a tooltip.
std::string escaped_lines(const std::string& text) {
  std::string out;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    out += (from == 0 ? "" : "\n") + xml_escaped(std::string_view(text).substr(from, end - from));
    from = end + 1;
  }
  return out;
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void cover(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return !(high >= low); }
};

}  // namespace

std::string xml_escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text, true)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string job_color(std::size_t index) {
  constexpr std::size_t kGoldenAngle = 137;  // neighbours differ most
  return "hsl(" + std::to_string((210 + kGoldenAngle * index) % 360) + ", 55%, 45%)";
}

std::string gantt_svg(const Schedule& schedule, double horizon_s) {
  constexpr double kLabel = 110;
  constexpr double kAxis = 22;
  constexpr std::size_t kTallRows = 32;
  const double row = schedule.lanes.size() <= kTallRows
                         ? 24
                         : std::max(2.0, 24.0 * kTallRows / static_cast<double>(schedule.lanes.size()));
  const double height = row * static_cast<double>(schedule.lanes.size()) + kAxis;
  const double end = std::max(end_s(schedule), horizon_s);
  const double scale = end > 0 ? (kWidth - kLabel - 1) / end : 0.0;
  const auto x_of = [&](double time_s) { return kLabel + time_s * scale; };

  // 1. The axis under everything.
  std::string out = opening(height, schedule.title);
  for (const Tick& tick : time_ticks(end, 11)) {
    out += line_of("grid", {x_of(tick.value), 0}, {x_of(tick.value), height - kAxis});
    const bool last = x_of(tick.value) > kWidth - 40;
    out += text_at(x_of(tick.value), height - 7, tick.label,
                   last              ? "end"
                   : tick.value == 0 ? "start"
                                     : "middle");
  }

  // 2. Lanes, and their names where there is room.
  const double label_every = std::ceil(12.0 / row);
  for (std::size_t lane = 0; lane < schedule.lanes.size(); ++lane) {
    const double y = row * static_cast<double>(lane);
    if (std::fmod(static_cast<double>(lane), label_every) == 0) {
      const std::string label = lanes_text(schedule, {lane}, true);
      out += text_at(kLabel - 6, y + std::min(row, 12.0) / 2 + row / 4 + 2, fitted(label, 16, true), "end");
    }
    const bool first_of_node = lane > 0 && schedule.lanes[lane - 1].node != schedule.lanes[lane].node;
    if (first_of_node) out += line_of("grid", {0, y}, {kWidth, y});
  }

  // 3. Bars: one rectangle over adjacent lanes; a nested svg cuts its text off.
  for (const std::size_t index : reading_order(schedule)) {
    const Bar& bar = schedule.bars[index];
    for (std::size_t i = 0; i < bar.lanes.size();) {
      std::size_t last = i;
      while (last + 1 < bar.lanes.size() && bar.lanes[last + 1] == bar.lanes[last] + 1 &&
             schedule.lanes[bar.lanes[last + 1]].node == schedule.lanes[bar.lanes[i]].node)
        ++last;
      const double width = std::max(1.0, bar.duration_s * scale - 1);
      const double tall = row * static_cast<double>(last - i + 1) - std::min(2.0, row / 4);
      const double y = row * static_cast<double>(bar.lanes[i]) + std::min(1.0, row / 8);
      const std::string css_class =
          bar.outcome == "failed" ? "bar failed"
          : bar.outcome == "stopped" || bar.outcome == "stopped early" || bar.outcome == "paused"
              ? "bar stopped"
              : "bar";
      out += "<svg x=\"" + at(x_of(bar.start_s)) + "\" y=\"" + at(y) + "\" width=\"" + at(width) +
             "\" height=\"" + at(tall) + "\"><rect class=\"" + css_class +
             "\" width=\"100%\" height=\"100%\" rx=\"2\" fill=\"" + job_color(bar.job) + "\"><title>" +
             escaped_lines(tooltip(schedule, bar)) + "</title></rect>";
      constexpr double kLeastForText = 14;
      if (width > kLeastForText && tall >= 11)
        out += "<text class=\"inside\" x=\"4\" y=\"" + at(tall / 2 + 4) + "\">" +
               xml_escaped(schedule.jobs[bar.job] + "  " + configuration_text(bar)) + "</text>";
      out += "</svg>\n";
      i = last + 1;
    }
  }
  return out + "</svg>\n";
}

std::string curves_svg(const std::vector<Curve>& curves, const CurveOptions& options) {
  constexpr double kLeft = 60;
  constexpr double kBottom = 40;
  constexpr double kTop = 10;
  constexpr double kHeight = 320;
  Range x_range;
  Range y_range;
  for (const Curve& curve : curves) {
    for (const Point& point : curve.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      x_range.cover(point.x);
      y_range.cover(point.y);
    }
  }
  if (x_range.empty()) return "";
  for (const auto& [name, value] : options.levels) y_range.cover(value);
  x_range.cover(0.0);
  const double margin = std::max(1e-9, (y_range.high - y_range.low) * 0.05);
  y_range = {y_range.low - margin, y_range.high + margin};
  if (x_range.high <= x_range.low) x_range.high = x_range.low + 1;
  const auto x_of = [&](double x) {
    return kLeft + (x - x_range.low) / (x_range.high - x_range.low) * (kWidth - kLeft - 10);
  };
  const auto y_of = [&](double y) {
    return kTop + (y_range.high - y) / (y_range.high - y_range.low) * (kHeight - kTop - kBottom);
  };

  std::string out = opening(kHeight, options.y_title + " by " + options.x_title);
  for (const Tick& tick : number_ticks(x_range.low, x_range.high, 11)) {
    out += line_of("grid", {x_of(tick.value), kTop}, {x_of(tick.value), kHeight - kBottom});
    out += text_at(x_of(tick.value), kHeight - kBottom + 14, tick.label, "middle");
  }
  for (const Tick& tick : number_ticks(y_range.low, y_range.high, 7)) {
    out += line_of("grid", {kLeft, y_of(tick.value)}, {kWidth - 10, y_of(tick.value)});
    out += text_at(kLeft - 6, y_of(tick.value) + 4, tick.label, "end");
  }
  out += text_at((kWidth + kLeft) / 2, kHeight - 8, options.x_title, "middle");
  out += text_at(4, kTop + 4, options.y_title);
  for (const auto& [name, value] : options.levels) {
    out += line_of("level", {kLeft, y_of(value)}, {kWidth - 10, y_of(value)});
    out += text_at(kWidth - 12, y_of(value) - 4, name, "end");
  }
  for (const Curve& curve : curves) {
    std::string path;
    std::string dots;
    bool pen_down = false;
    for (const Point& point : curve.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) {
        pen_down = false;
        continue;
      }
      const std::string place = at(x_of(point.x)) + " " + at(y_of(point.y));
      path += (pen_down ? "L" : "M") + place;
      pen_down = true;
      if (options.markers)
        dots += "<circle cx=\"" + at(x_of(point.x)) + "\" cy=\"" + at(y_of(point.y)) + "\" r=\"3\" fill=\"" +
                job_color(curve.color) + "\"/>";
    }
    out += "<g><title>" + xml_escaped(curve.name) + "</title><path fill=\"none\" stroke=\"" +
           job_color(curve.color) + "\" stroke-width=\"" + (curve.emphasised ? "2.5" : "1.3") + "\" d=\"" +
           path + "\"/>" + dots + "</g>\n";
  }
  return out + "</svg>\n";
}

}  // namespace saturn::view
