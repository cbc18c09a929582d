// Archives by their blocks: what is found in them, and what is refused.

#include "saturn/formats/tar.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/images.h"

namespace saturn {
namespace {

using testing::tar_entry;
using testing::tar_of;

/// The members of `archive` as "name:content", or the first fault's text.
std::string members_of(const std::string& archive) {
  std::string found;
  const formats::ReadBytes read = [&](std::uint64_t offset, char* into, std::size_t size) {
    if (offset > archive.size() || size > archive.size() - offset) return false;
    std::memcpy(into, archive.data() + offset, size);
    return true;
  };
  const Result<void> done = formats::for_each_tar_member(
      archive.size(), read, "a.tar", [&](const formats::TarMember& member) -> Result<void> {
        if (member.size < 100) {
          found += member.name + ":" + archive.substr(member.offset, member.size) + " ";
        } else {
          found += member.name + ":" + std::to_string(member.size) + "B ";
        }
        return {};
      });
  if (done.ok()) return found;
  const Diagnostic& fault = done.faults().front();
  CHECK(fault.where == "a.tar");
  CHECK_FALSE(fault.expected.empty());
  CHECK_FALSE(fault.fix.empty());
  return "fault: " + fault.what;
}

std::string pax(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  std::size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

/// An archive of one member whose header was changed at `at` and signed again.
std::string changed(std::size_t at, const std::string& bytes, char type = '0') {
  std::string archive = tar_of({{"a.txt", "abc", type}});
  archive.replace(at, bytes.size(), bytes);
  testing::sign_tar_header(archive, 0);
  return archive;
}

TEST_SUITE("formats") {
  TEST_CASE("formats/tar: members are found in order with their places") {
    CHECK(members_of(tar_of({})) == "");
    CHECK(
        members_of(tar_of({{"a.txt", "abc"}, {"d/", "", '5'}, {"d/b", ""}, {"c", std::string(513, 'x')}})) ==
        "a.txt:abc d/b: c:513B ");
    CHECK(members_of(tar_of({{"old", "1", '\0'}, {"contiguous", "2", '7'}})) == "old:1 contiguous:2 ");
    CHECK(members_of(changed(345, "some/folder")) == "some/folder/a.txt:abc ");
    // One block of zeros is the end, whatever follows.
    CHECK(members_of(tar_entry({"a", "1"}) + std::string(512, '\0') + "rest") == "a:1 ");
  }

  TEST_CASE("formats/tar: long names and large numbers of GNU and of pax are read") {
    const std::string name(300, 'n');
    CHECK(members_of(tar_of({{"././@LongLink", name + std::string(1, '\0'), 'L'}, {"short", "abc"}})) ==
          name + ":abc ");
    CHECK(members_of(
              tar_of({{"h", pax("path", name) + pax("mtime", "1.5"), 'x'}, {"short", "abc"}, {"b", "1"}})) ==
          name + ":abc b:1 ");
    CHECK(members_of(tar_of({{"g", pax("comment", "all"), 'g'}, {"a", "abc"}})) == "a:abc ");
    // The member's own header may say another size than the extended one, which holds.
    std::string archive = tar_of({{"h", pax("size", "3"), 'x'}, {"a", "abc"}});
    archive.replace(1024 + 124, 11, "00000000000");
    testing::sign_tar_header(archive, 1024);
    CHECK(members_of(archive) == "a:abc ");
    CHECK(members_of(changed(124, std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12))) == "a.txt:abc ");
  }

  TEST_CASE("formats/tar: every cut of an archive is a fault but between its members") {
    const std::string archive = tar_of({{"a.txt", "abc"}, {"b", std::string(600, 'x')}});
    const std::string whole = members_of(archive);
    for (std::size_t size = 0; size < archive.size() - 512; ++size) {
      CAPTURE(size);
      CHECK(members_of(archive.substr(0, size)).starts_with("fault: "));
    }
    CHECK(members_of(archive.substr(0, archive.size() - 512)) == whole);
  }

  TEST_CASE("formats/tar: a flipped bit of a header is seen or changes nothing") {
    const std::string archive = tar_of({{"a.txt", "abc"}});
    for (std::size_t at = 0; at < 512; ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string flipped = archive;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        CAPTURE(at);
        CAPTURE(bit);
        const std::string found = members_of(flipped);
        const bool unharmed = found == "a.txt:abc ";
        // Only the sum's own field may be spelled in several ways.
        CHECK((found.starts_with("fault: ") || (unharmed && at >= 148 && at < 156)));
      }
    }
  }

  TEST_CASE("formats/tar: names that leave the folder and members that are no files are refused") {
    struct Row {
      std::string archive;
      std::string says;
    };
    const std::string huge = std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
    const std::vector<Row> rows = {
        {tar_of({{"../a", "1"}}), "member \"../a\" would leave its folder"},
        {tar_of({{"a/../../b", "1"}}), "would leave its folder"},
        {tar_of({{"/etc/passwd", "1"}}), "would leave its folder"},
        {tar_of({{"h", pax("path", "a/.."), 'x'}, {"a", "1"}}), "would leave its folder"},
        {tar_of({{"l", "../../x", 'L'}, {"a", "1"}}), "would leave its folder"},
        {tar_of({{"", "1"}}), "would leave its folder"},
        {tar_of({{"a", "", '2'}}), "member \"a\" is a link or a device"},
        {tar_of({{"a", "", '1'}}), "is a link or a device"},
        {tar_of({{"a", "", '3'}}), "is a link or a device"},
        {tar_of({{"a", "", '6'}}), "is a link or a device"},
        {tar_of({{"sparse", "1", 'S'}}), "of an unknown type"},
        {changed(124, "0777777777\t "), "the size of a member is no number"},
        {changed(124, "77777777777"), "goes beyond the end"},
        {changed(124, huge), "goes beyond the end"},
        {changed(124, std::string(12, '\xff')), "the size of a member is no number"},
        {tar_of({{"h", pax("size", "18446744073709551615"), 'x'}, {"a", "1"}}), "goes beyond the end"},
        {tar_of({{"h", pax("size", "99999999999999999999"), 'x'}, {"a", "1"}}), "extended header"},
        {tar_of({{"h", pax("size", "-1"), 'x'}, {"a", "1"}}), "extended header"},
        {tar_of({{"h", "9999 path=x\n", 'x'}, {"a", "1"}}), "extended header"},
        {tar_of({{"h", "0 path=x\n", 'x'}, {"a", "1"}}), "extended header"},
        {tar_of({{"h", "path=x\n", 'x'}, {"a", "1"}}), "extended header"},
        {tar_of({{"long", std::string(65537, 'n'), 'L'}, {"a", "1"}}), "a name of 65537 bytes"},
        {std::string(2048, 'x'), "no header of a tar archive"},
        {"", "ends in the middle"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.says);
      CHECK(members_of(row.archive).find(row.says) != std::string::npos);
    }
  }

  TEST_CASE("formats/tar: a fault of the visitor and of the source end the reading") {
    const std::string archive = tar_of({{"a", "1"}, {"b", "2"}});
    int num_visits = 0;
    const auto stop = [&](const formats::TarMember&) -> Result<void> {
      ++num_visits;
      return Diagnostic{.what = "enough"};
    };
    const formats::ReadBytes good = [&](std::uint64_t offset, char* into, std::size_t size) {
      std::memcpy(into, archive.data() + offset, size);
      return true;
    };
    CHECK(formats::for_each_tar_member(archive.size(), good, "a.tar", stop).faults()[0].what == "enough");
    CHECK(num_visits == 1);
    const formats::ReadBytes gone = [](std::uint64_t, char*, std::size_t) { return false; };
    const Result<void> unread = formats::for_each_tar_member(archive.size(), gone, "a.tar", stop);
    REQUIRE_FALSE(unread.ok());
    CHECK(unread.faults()[0].what.find("cannot be read") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn
