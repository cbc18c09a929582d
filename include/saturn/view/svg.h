// Schedules and curves as SVG. Every name is escaped; nothing refers to anything outside the picture.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "saturn/view/schedule.h"

namespace saturn::view {

/// `text` for element content and quoted attributes: printable, with & < > " ' escaped.
std::string xml_escaped(std::string_view text);

/// A colour that tells the `index`-th job from its neighbours: "hsl(137, 55%, 45%)".
std::string job_color(std::size_t index);

/// A row per device, a rectangle per bar (over adjacent devices as one) with its name and a tooltip, an axis.
/// `horizon_s` is the right end of the axis where it is after the last bar.
std::string gantt_svg(const Schedule& schedule, double horizon_s = 0.0);

struct Point {
  double x = 0.0;
  double y = 0.0;
};

struct Curve {
  std::string name;
  std::size_t color = 0;  ///< for job_color
  bool emphasised = false;
  std::vector<Point> points;  ///< by x; points that are not finite break the line
};

struct CurveOptions {
  std::string x_title;
  std::string y_title;
  bool markers = false;                                ///< a dot per point
  std::vector<std::pair<std::string, double>> levels;  ///< named horizontal lines
};

std::string curves_svg(const std::vector<Curve>& curves, const CurveOptions& options);

}  // namespace saturn::view
