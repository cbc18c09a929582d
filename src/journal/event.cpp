// Events as lines: fixed key order, a checksum over everything before it.

#include "saturn/journal/event.h"

#include <array>
#include <cstdio>

#include "saturn/base/digest.h"

namespace saturn::journal {
namespace {

constexpr std::array kKindNames = {
    "run_started", "batch_accepted", "planned",     "attempt_started", "training", "progress",    "saving",
    "checkpoint",  "metric",         "stopping",    "attempt_ended",   "skipped",  "warning", "struck",
    "job_changed", "requested",      "batch_added", "device_changed",  "run_ended"};
constexpr std::string_view kChecksumKey = ",\"crc32c\":\"";
constexpr std::size_t kChecksumBytes = kChecksumKey.size() + 8 + 2;  // eight digits, then "}

std::string checksum_of(std::string_view text) {
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", crc32c(text));
  return digits;
}

Diagnostic bad_line(const std::string& where, std::string what) {
  return {.where = where,
          .what = std::move(what),
          .expected = "a line as Saturn wrote it: the journal is append-only and checksummed",
          .fix = "restore the file, or start in a new run directory with --dir"};
}

}  // namespace

const char* to_string(EventKind kind) {
  return kKindNames[static_cast<std::size_t>(kind)];
}

std::string to_line(const Event& event) {
  Json line = Json::object();
  line["seq"] = event.seq;
  line["time_s"] = event.time_s;
  line["unix_s"] = event.unix_s;
  line["event"] = to_string(event.kind);
  if (!event.job.empty()) line["job"] = event.job;
  if (event.attempt > 0) line["attempt"] = event.attempt;
  for (const auto& [key, value] : event.details.items()) line[key] = value;
  std::string text = saturn::to_line(line);
  text.pop_back();  // the closing brace comes after the checksum
  const std::string checksum = checksum_of(text);
  return text.append(kChecksumKey).append(checksum).append("\"}");
}

Result<Event> event_from_line(std::string_view line, const std::string& where) {
  if (line.size() <= kChecksumBytes) return bad_line(where, "the line is not an event");
  const std::string_view body = line.substr(0, line.size() - kChecksumBytes);
  const std::string_view tail = line.substr(body.size());
  if (tail != std::string(kChecksumKey) + checksum_of(body) + "\"}")
    return bad_line(where, "the line does not have the checksum it was written with");

  SATURN_TRY(Json document, parse_json(std::string(body) + "}", where));
  Diagnostics faults;
  JsonReader reader(document, where, "", faults);
  Event event;
  event.seq = reader.integer("seq");
  event.time_s = reader.number("time_s");
  event.unix_s = reader.number("unix_s");
  const std::string kind = reader.string("event");
  event.job = reader.string_or("job", "");
  event.attempt = static_cast<int>(reader.integer_or("attempt", 0));
  if (!faults.empty()) return faults;

  bool known = false;
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    if (kind != kKindNames[i]) continue;
    event.kind = static_cast<EventKind>(i);
    known = true;
  }
  if (!known) return bad_line(where, "event " + in_quotes(kind) + " is not known to this version of Saturn");
  for (const auto& [key, value] : document.items()) {
    if (key != "seq" && key != "time_s" && key != "unix_s" && key != "event" && key != "job" &&
        key != "attempt")
      event.details[key] = value;
  }
  return event;
}

}  // namespace saturn::journal
