// Lines of the journal: exact both ways, and any change is seen.

#include "saturn/journal/event.h"

#include <doctest/doctest.h>

#include <cstdio>

#include "saturn/base/digest.h"

namespace saturn::journal {
namespace {

constexpr std::size_t kChecksumBytes = 21;  // ,"crc32c":"01234567"}

Event sample() {
  Event event{.seq = 7,
              .time_s = 12.25,
              .unix_s = 1763716000.5,
              .kind = EventKind::progress,
              .job = "gpt2-1e-3",
              .attempt = 2};
  event.details["step"] = 41;
  event.details["loss"] = 3.0625;
  event.details["note"] = "line\nbreak \"quoted\" \u00e9";
  return event;
}

}  // namespace

TEST_SUITE("journal") {
  TEST_CASE("journal/event: a line is read back as it was written and ends with its checksum") {
    const Event event = sample();
    const std::string line = to_line(event);
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.starts_with(
        R"({"seq":7,"time_s":12.25,"unix_s":1763716000.5,"event":"progress","job":"gpt2-1e-3","attempt":2,)"));
    CHECK(line.substr(line.size() - kChecksumBytes, 11) == ",\"crc32c\":\"");
    const Result<Event> back = event_from_line(line, "events.jsonl:8:1");
    REQUIRE(back.ok());
    CHECK(back->seq == event.seq);
    CHECK(back->time_s == event.time_s);
    CHECK(back->unix_s == event.unix_s);
    CHECK(back->kind == event.kind);
    CHECK(back->job == event.job);
    CHECK(back->attempt == event.attempt);
    CHECK(back->details == event.details);
    CHECK(to_line(*back) == line);
  }

  TEST_CASE("journal/event: the line is one JSON object that other programs can read") {
    const Result<Json> document = parse_json(to_line(sample()), "line");
    REQUIRE(document.ok());
    CHECK((*document)["event"] == "progress");
    CHECK((*document)["crc32c"].get<std::string>().size() == 8);
  }

  TEST_CASE("journal/event: every changed byte and every cut is refused with its position") {
    const std::string line = to_line(sample());
    for (std::size_t i = 0; i < line.size(); ++i) {
      std::string changed = line;
      changed[i] = static_cast<char>(changed[i] ^ 1);
      CAPTURE(i);
      CHECK_FALSE(event_from_line(changed, "e:8:1").ok());
      const Result<Event> cut = event_from_line(std::string_view(line).substr(0, i), "e:8:1");
      REQUIRE_FALSE(cut.ok());
      CHECK(cut.faults().front().where == "e:8:1");
    }
  }

  TEST_CASE("journal/event: an unknown kind is refused although its checksum is right") {
    std::string body = to_line(sample());
    body.resize(body.size() - kChecksumBytes);
    body.replace(body.find("progress"), std::string("progress").size(), "teleport");
    char checksum[9];
    std::snprintf(checksum, sizeof checksum, "%08x", crc32c(body));
    const Result<Event> event = event_from_line(body + ",\"crc32c\":\"" + checksum + "\"}", "e:8:1");
    REQUIRE_FALSE(event.ok());
    CHECK(event.faults().front().what.find("\"teleport\"") != std::string::npos);
  }
}

}  // namespace saturn::journal
