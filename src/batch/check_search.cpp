// Checks of [search] across its keys, and against the jobs.

#include "batch/check_search.h"

#include <string>

namespace saturn::batch {
namespace {

struct OwnKey {
  const char* key;
  const char* methods;  // that read it
  const char* needed;   // by these of them
};

constexpr OwnKey kOwnKeys[] = {
    {"first_rung", "asha median ask", "asha median"},
    {"reduction_factor", "asha", ""},
    {"rung_every", "median ask", ""},
    {"min_jobs", "median", ""},
    {"command", "ask", "ask"},
    {"samples", "ask", "ask"},
    {"at_once", "ask", ""},
    {"answer_timeout", "ask", ""},
};

bool is_accuracy(const std::string& metric) {
  return metric.find("accuracy") != std::string::npos;
}

bool names(const char* methods, const std::string& method) {
  return (" " + std::string(methods) + " ").find(" " + method + " ") != std::string::npos;
}

// "asha, median".
std::string with_commas(std::string methods) {
  for (std::size_t at = 0; (at = methods.find(' ', at)) != std::string::npos; at += 2)
    methods.replace(at, 1, ", ");
  return methods;
}

}  // namespace

void settle_search(SearchSettings& search, const Positions& positions, Faults& faults) {
  if (search.method.empty()) return;
  for (const OwnKey& own : kOwnKeys) {
    const auto written = positions.find(std::string("search.") + own.key);
    if (written == positions.end() && names(own.needed, search.method)) {
      faults.add(positions.at("search"),
                 "[search] method = " + in_quotes(search.method) + " has no " + own.key,
                 std::string("a line that sets ") + own.key, "`saturn schema` describes it");
    } else if (written != positions.end() && !names(own.methods, search.method)) {
      faults.add(
          written->second,
          std::string("[search] ") + own.key + " means nothing to method = " + in_quotes(search.method),
          "a method that reads it: " + with_commas(own.methods), "remove it");
    }
  }
  const auto refuse_zero = [&](const char* key, std::int64_t value, const std::string& what,
                               const std::string& fix) {
    const auto written = positions.find(std::string("search.") + key);
    if (written != positions.end() && value == 0)
      faults.add(written->second, "[search] " + what, "at least 1", fix);
  };
  refuse_zero("first_rung", search.first_rung, "first_rung = 0 compares jobs before they have trained",
              "first_rung = 100");
  if (search.method == "ask") {
    refuse_zero("samples", search.samples, "samples = 0 proposes nothing", "samples = 20");
    refuse_zero("command", static_cast<std::int64_t>(search.command.size()), "command names no program",
                "command = [\"python3\", \"propose.py\"]");
  }
  if (search.goal.empty()) search.goal = is_accuracy(search.metric) ? "max" : "min";
}

void check_searched(const Job& job, const ReadData* data, const SearchSettings& search,
                    const Positions& positions, Faults& faults) {
  if (search.method.empty()) return;
  const auto position_of = [&](const char* key) {
    const auto written = positions.find(std::string("search.") + key);
    return written == positions.end() ? positions.at("search") : written->second;
  };
  const std::string whose = "[search] ";
  if (job.amount.unit == Amount::Unit::steps && search.first_rung > 0 &&
      static_cast<double>(search.first_rung) >= job.amount.value) {
    faults.add(position_of("first_rung"),
               whose + "first_rung = " + std::to_string(search.first_rung) +
                   " is not before the end of job " + in_quotes(job.name),
               "fewer than its " + std::to_string(static_cast<std::int64_t>(job.amount.value)) +
                   " steps (line " + std::to_string(job.position_of("steps").line) + ")",
               "lower first_rung, or train longer");
  }
  if (data == nullptr || !data->usable) return;
  if (is_accuracy(search.metric) && data->source.kind != DataKind::images) {
    faults.add(position_of("metric"),
               whose + "metric = " + in_quotes(search.metric) + " is not measured for job " +
                   in_quotes(job.name) + ", whose data are " + name_of(data->source.kind),
               "a metric that every job has", "metric = \"validation_loss\"");
  }
  const bool validates = data->source.validation_share > 0.0 || !data->source.validation_files.empty();
  if (!validates) {
    faults.add(position_of("metric"),
               whose + "job " + in_quotes(job.name) + " has no validation data to be compared by",
               "a validation share above 0 in [data." + job.data + "]", "validation = 0.1");
  }
}

}  // namespace saturn::batch
