// A schedule drawn with characters: one row per device, bars that name their jobs, a time axis, a legend.

#pragma once

#include <cstddef>
#include <string>

#include "saturn/view/schedule.h"
#include "saturn/view/terminal.h"

namespace saturn::view {

struct GanttOptions {
  std::size_t most_rows = 48;    ///< more rows than this become one per node, of the share of it that is busy
  std::size_t most_legend = 64;  ///< lines of the legend; the rest is counted
  double horizon_s = 0.0;        ///< right end of the axis where it is after the last bar
};

/// Rows and axis, no line wider than the terminal. Devices of a node with the same bars share one row.
std::string gantt_text(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options = {});

/// A line per bar: key, job, configuration, devices, start, duration, steps, outcome.
std::string legend_text(const Schedule& schedule, const Terminal& terminal, const GanttOptions& options = {});

/// Makespan, proven lower bound, gap, status, and each baseline with its ratio to this plan.
std::string certificate_text(const Certificate& certificate, const Terminal& terminal);

/// Title, chart, legend and certificate, as `saturn plan` and `saturn show` print them.
std::string schedule_text(const Schedule& schedule, const Terminal& terminal,
                          const GanttOptions& options = {});

}  // namespace saturn::view
