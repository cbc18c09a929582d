// The blocks of a tar archive.
//
// Source: POSIX.1-2001 pax, section "ustar Interchange Format" and "pax Interchange Format"; the GNU
// extensions 'L' and numbers in base 256 as GNU tar's manual describes them.

#include "saturn/formats/tar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "saturn/base/diagnostic.h"

namespace saturn::formats {
namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kLongestName = std::uint64_t{64} << 10;

using Block = std::array<char, kBlock>;

std::string_view field(const Block& block, std::size_t first, std::size_t size) {
  const std::string_view whole(block.data() + first, size);
  return whole.substr(0, std::min(whole.find('\0'), whole.size()));
}

/// Octal digits, or where the first bit is set a big-endian number.
std::optional<std::uint64_t> number(const Block& block, std::size_t first, std::size_t size) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(block.data()) + first;
  if ((bytes[0] & 0x80U) != 0) {
    std::uint64_t value = bytes[0] & 0x7fU;
    for (std::size_t i = 1; i < size; ++i) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | bytes[i];
    }
    return value;
  }
  std::string_view digits = field(block, first, size);
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  while (digits.ends_with(' ')) digits.remove_suffix(1);
  if (digits.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

bool sum_is_right(const Block& block) {
  constexpr std::size_t kFirst = 148, kSize = 8;
  const auto wanted = number(block, kFirst, kSize);
  std::uint64_t sum = kSize * ' ';
  for (std::size_t i = 0; i < block.size(); ++i)
    if (i < kFirst || i >= kFirst + kSize) sum += static_cast<unsigned char>(block[i]);
  return wanted && *wanted == sum;
}

bool is_empty(const Block& block) {
  return std::all_of(block.begin(), block.end(), [](char byte) { return byte == 0; });
}

/// What an extended header says of the member after it.
struct Extended {
  std::optional<std::string> name;
  std::optional<std::uint64_t> size;
};

/// Records "LENGTH KEY=VALUE\n"; false where they are not.
bool read_pax(std::string_view records, Extended& into) {
  while (!records.empty()) {
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(records.data(), records.data() + records.size(), length);
    const auto digits = static_cast<std::size_t>(end - records.data());
    if (error != std::errc() || length > records.size() || length < digits + 2 || *end != ' ') return false;
    std::string_view record = records.substr(digits + 1, length - digits - 1);
    if (!record.ends_with('\n')) return false;
    record.remove_suffix(1);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") into.name = std::string(value);
    if (key == "size") {
      std::uint64_t size = 0;
      const auto [last, fault] = std::from_chars(value.data(), value.data() + value.size(), size);
      if (fault != std::errc() || last != value.data() + value.size()) return false;
      into.size = size;
    }
    records.remove_prefix(length);
  }
  return true;
}

/// A name that would leave the folder it is unpacked in. Nothing is unpacked here, but such an archive was
/// not made by a friend.
bool leaves_its_folder(std::string_view name) {
  if (name.starts_with('/')) return true;
  for (;;) {
    const std::size_t slash = name.find('/');
    if (name.substr(0, slash) == "..") return true;
    if (slash == std::string_view::npos) return false;
    name.remove_prefix(slash + 1);
  }
}

}  // namespace

Result<void> for_each_tar_member(std::uint64_t size, const ReadBytes& read, const std::string& path,
                                 const std::function<Result<void>(const TarMember&)>& visit) {
  std::uint64_t at = 0;
  const auto fault = [&](const std::string& what, const std::string& expected) {
    return Diagnostic{.where = path,
                      .what = "byte " + std::to_string(at) + ": " + what,
                      .expected = expected,
                      .fix = "make the archive again; `tar -tvf` shows what it holds"};
  };
  Extended extended;
  for (;;) {
    Block block{};
    if (size - at < kBlock) return fault("the archive ends in the middle", "two blocks of zeros at the end");
    if (!read(at, block.data(), block.size()))
      return fault("the archive cannot be read", "a file that stays");
    if (is_empty(block)) return {};
    if (!sum_is_right(block))
      return fault("this is no header of a tar archive", "a header whose sum is right");
    const char type = block[156];
    std::uint64_t member_size = 0;
    if (const auto written = number(block, 124, 12)) {
      member_size = *written;
    } else {
      return fault("the size of a member is no number", "octal digits");
    }
    const bool is_file = type == '0' || type == '\0' || type == '7';
    if (is_file && extended.size) member_size = *extended.size;
    const std::uint64_t first = at + kBlock;
    if (member_size > size - first || size - first - member_size < (kBlock - member_size % kBlock) % kBlock)
      return fault("a member of " + std::to_string(member_size) + " bytes goes beyond the end of the archive",
                   "a whole archive");
    const std::uint64_t next = first + member_size + (kBlock - member_size % kBlock) % kBlock;

    if (type == 'L' || type == 'x') {
      if (member_size > kLongestName)
        return fault("a name of " + std::to_string(member_size) + " bytes", "at most 64 KiB");
      std::string text(member_size, '\0');
      if (!read(first, text.data(), text.size()))
        return fault("the archive cannot be read", "a file that stays");
      if (type == 'L') extended.name = text.substr(0, text.find('\0'));
      if (type == 'x' && !read_pax(text, extended))
        return fault("an extended header that cannot be read", "records of pax");
    } else if (type == 'g' || type == '5' || type == 'K') {
      if (type == '5') extended = {};
    } else {
      std::string name(field(block, 0, 100));
      const std::string prefix(field(block, 345, 155));
      const bool ustar = std::memcmp(block.data() + 257, "ustar\0", 6) == 0;
      if (ustar && !prefix.empty()) name = prefix + "/" + name;
      if (extended.name) name = *extended.name;
      extended = {};
      if (type >= '1' && type <= '6')
        return fault("member " + in_quotes(name) + " is a link or a device", "regular files only");
      if (!is_file)
        return fault("member " + in_quotes(name) + " is of an unknown type", "regular files only");
      if (name.empty() || leaves_its_folder(name))
        return fault("member " + in_quotes(name) + " would leave its folder", "names within the archive");
      SATURN_TRY_VOID(visit({std::move(name), first, member_size}));
    }
    at = next;
  }
}

}  // namespace saturn::formats
