// report.html: a run as one page that needs nothing else: summary, schedule planned and measured, loss
// curves.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/journal/run_directory.h"
#include "saturn/journal/summary.h"
#include "saturn/view/schedule.h"
#include "saturn/view/svg.h"

namespace saturn::view {

/// The losses in a job's metrics.jsonl by step, thinned to at most a thousand points by averaging neighbours.
struct Metrics {
  std::vector<Point> train;
  std::vector<Point> validation;
};

/// Lines that are not whole (a run that is going on) or not JSON are left out; an absent file is empty.
///
/// Errors: Kind::machine where the file cannot be read.
Result<Metrics> read_metrics(const std::string& path);

struct Report {
  journal::Summary summary;
  std::optional<Schedule> planned;  ///< in run time, like `measured`
  Schedule measured;
  std::vector<Metrics> metrics;            ///< of each job of the summary
  std::vector<journal::PlanRecord> plans;  ///< that were in force, in order
};

/// The page. Text from names, reasons and files is escaped; nothing is loaded from anywhere.
std::string report_html(const Report& report);

/// Reads the run directory, finished or not, without its lock, and writes report.html into it.
///
/// Errors: those of the journal and of the files; Kind::disk_full.
Result<std::string> write_report(const journal::RunPaths& paths);

}  // namespace saturn::view
