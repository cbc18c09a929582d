// Events as lines: fixed key order, a checksum over everything before it.

#include "saturn/journal/event.h"

#include <array>
#include <cstdio>
#include <optional>

#include "saturn/base/digest.h"
#include "saturn/base/version.h"

namespace saturn::journal {
namespace {

constexpr std::array kKindNames = {
    "run_started", "batch_accepted", "planned",        "introspected", "attempt_started", "training",
    "progress",    "saving",         "checkpoint",     "metric",       "proposed",        "searched",
    "stopping",    "attempt_ended",  "skipped",        "warning",      "struck",          "job_changed",
    "requested",   "batch_added",    "device_changed", "run_ended"};
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

// The text that the checksum covers; nothing where the line does not end in the right one.
std::optional<std::string_view> checked_body(std::string_view line) {
  if (line.size() <= kChecksumBytes) return std::nullopt;
  const std::string_view body = line.substr(0, line.size() - kChecksumBytes);
  const std::string tail = std::string(kChecksumKey) + checksum_of(body) + "\"}";
  return line.substr(body.size()) == tail ? std::optional(body) : std::nullopt;
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

bool is_whole(std::string_view line) {
  return checked_body(line).has_value();
}

Result<void> refuse_other_format(std::string_view first_line, const std::string& where) {
  constexpr JsonLimits kLimits{.bytes = 64 << 10, .depth = 8};
  const Result<Json> document = parse_json(std::string(first_line), where, kLimits);
  if (!document.ok() || !document->is_object()) return {};  // what it is is said by whoever reads the line
  const auto format = document->find("format");
  if (format == document->end() || !format->is_string() || *format == kEventsFormat) return {};
  const auto saturn = document->find("saturn");
  const std::string writer = saturn != document->end() && saturn->is_string()
                                 ? "version " + saturn->get<std::string>() + " of saturn"
                                 : "the version of saturn that wrote it";
  return Diagnostic{
      .where = where,
      .what = "this journal has the format " + in_quotes(format->get<std::string>()),
      .expected = in_quotes(kEventsFormat) + ", which saturn " + version() + " reads and writes",
      .fix = "use " + writer + ", or start in a new run directory with --dir"};
}

Result<Event> event_from_line(std::string_view line, const std::string& where) {
  if (line.size() <= kChecksumBytes) return bad_line(where, "the line is not an event");
  const std::optional<std::string_view> body = checked_body(line);
  if (!body) return bad_line(where, "the line does not have the checksum it was written with");

  SATURN_TRY(Json document, parse_json(std::string(*body) + "}", where));
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
