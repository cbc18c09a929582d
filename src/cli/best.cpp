// saturn best: the jobs of a run by a metric, the best one first.

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/command.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/journal/summary.h"

namespace saturn::cli {
namespace {

constexpr const char* kTrainLoss = "train_loss";

std::optional<double> value_of(const journal::JobSummary& job, const std::string& metric) {
  std::optional<double> value;
  if (metric == kTrainLoss) value = job.train_loss;
  if (const auto it = job.validation.find(metric); it != job.validation.end()) value = it->second;
  return value && std::isfinite(*value) ? value : std::nullopt;
}

struct Ranked {
  const journal::JobSummary* job = nullptr;
  std::optional<double> value;
};

struct BestArgs {
  std::string directory;
  std::string metric = "loss";

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.option("--metric", "NAME", metric,
                   "what decides: loss and train_loss the least, accuracy the most", "loss");
  }

  Result<int> run(const Context& context) const {
    SATURN_TRY(const journal::RunState state, journal::read_run_state(journal::RunPaths(directory)));
    const journal::Summary summary = journal::summarise(state);
    SATURN_TRY(const std::vector<Ranked> ranked, rank(summary));
    if (context.json) {
      print_json(as_json(ranked));
    } else {
      print(as_text(ranked));
    }
    return 0;
  }

 private:
  // Those with a value first, from the best on; only a finished job can win.
  Result<std::vector<Ranked>> rank(const journal::Summary& summary) const {
    std::set<std::string> known = {kTrainLoss};
    std::vector<Ranked> ranked;
    for (const journal::JobSummary& job : summary.jobs) {
      for (const auto& [name, value] : job.validation) known.insert(name);
      const bool can_win = job.state == journal::JobState::done && !job.model_dir.empty();
      ranked.push_back({&job, can_win ? value_of(job, metric) : std::nullopt});
    }
    const double sign = metric.find("accuracy") != std::string::npos ? -1.0 : 1.0;
    std::stable_sort(ranked.begin(), ranked.end(), [&](const Ranked& a, const Ranked& b) {
      if (a.value.has_value() != b.value.has_value()) return a.value.has_value();
      return a.value && sign * *a.value < sign * *b.value;
    });
    if (!ranked.empty() && ranked.front().value) return ranked;
    const std::vector<std::string> names(known.begin(), known.end());
    return Diagnostic{
        .where = directory,
        .what = "no finished job has the metric " + in_quotes(metric),
        .expected = "a finished job, and one of " + listed(names),
        .fix = known.contains(metric) ? "saturn status " + directory : did_you_mean(metric, names)};
  }

  std::string model_of(const Ranked& one) const { return join_path(directory, one.job->model_dir); }

  Json as_json(const std::vector<Ranked>& ranked) const {
    Json document = {{"metric", metric},
                     {"best", ranked.front().job->name},
                     {"value", *ranked.front().value},
                     {"model", model_of(ranked.front())},
                     {"jobs", Json::array()}};
    for (const Ranked& one : ranked)
      document["jobs"].push_back({{"name", one.job->name},
                                  {"state", to_string(one.job->state)},
                                  {"value", one.value ? Json(*one.value) : Json()}});
    return document;
  }

  std::string as_text(const std::vector<Ranked>& ranked) const {
    std::size_t width = 3;
    for (const Ranked& one : ranked) width = std::max(width, one.job->name.size());
    const auto line = [&](const std::string& job, const std::string& state, const std::string& value) {
      return job + std::string(width - job.size() + 2, ' ') + state + std::string(15 - state.size(), ' ') +
             value + "\n";
    };
    std::string text = line("job", "state", metric);
    for (const Ranked& one : ranked)
      text += line(one.job->name, to_string(one.job->state), one.value ? format_number(*one.value, 6) : "-");
    return text + "\nbest: " + ranked.front().job->name + ", " + model_of(ranked.front()) + "\n";
  }
};

}  // namespace

CommandEntry best() {
  return {.name = "best",
          .summary = "Name the best job of a run by a metric, with a table of all.",
          .example = "saturn best runs/kjv-sweep --metric loss",
          .declare = &make_action<BestArgs>};
}

}  // namespace saturn::cli
