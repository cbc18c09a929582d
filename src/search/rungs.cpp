// Where the rungs are, and which of them a job has still to be judged at.

#include "saturn/search/rungs.h"

#include <algorithm>

namespace saturn::search {
namespace {

std::int64_t distance_of(const batch::SearchSettings& settings, std::int64_t num_steps) {
  const std::int64_t every = settings.rung_every > 0 ? settings.rung_every : settings.first_rung;
  const std::int64_t times = std::max<std::int64_t>(1, (num_steps / every + kMostRungs - 1) / kMostRungs);
  return every * times;
}

bool is_judged(const journal::JobRecord& record, std::int64_t rung) {
  return std::any_of(record.rungs.begin(), record.rungs.end(),
                     [&](const journal::RungRecord& known) { return known.rung >= rung; });
}

}  // namespace

std::vector<std::int64_t> rungs_of(const batch::SearchSettings& settings, std::int64_t num_steps) {
  std::vector<std::int64_t> rungs;
  if (settings.method.empty() || settings.first_rung <= 0) return rungs;
  const bool grows = settings.method == "asha";
  const std::int64_t distance = grows ? 0 : distance_of(settings, num_steps);
  for (std::int64_t rung = settings.first_rung; rung < num_steps;) {
    rungs.push_back(rung);
    rung = grows ? rung * settings.reduction_factor : rung + distance;
  }
  return rungs;
}

std::optional<std::int64_t> rung_reached(const batch::SearchSettings& settings,
                                         const journal::JobRecord& record, std::int64_t step) {
  const std::vector<std::int64_t> rungs = rungs_of(settings, record.num_steps);
  const auto beyond = std::upper_bound(rungs.begin(), rungs.end(), step);
  if (beyond == rungs.begin()) return std::nullopt;
  const std::int64_t rung = *std::prev(beyond);
  return is_judged(record, rung) ? std::nullopt : std::optional(rung);
}

std::vector<std::int64_t> validations(const batch::SearchSettings& settings, const journal::JobRecord& record,
                                      std::int64_t from_step) {
  std::vector<std::int64_t> steps;
  if (rung_reached(settings, record, from_step)) steps.push_back(from_step);
  for (const std::int64_t rung : rungs_of(settings, record.num_steps)) {
    if (rung > from_step && !is_judged(record, rung)) steps.push_back(rung);
  }
  return steps;
}

}  // namespace saturn::search
