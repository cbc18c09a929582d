// Tokenizers read from their files: a small one by hand, what is refused, and texts kept as shards.

#include "saturn/text/tokenizer.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/formats/token_shard.h"
#include "saturn/text/corpus.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {
namespace {

using text::Tokens;

/// How GPT-2's vocabulary spells a byte.
std::string spelling(int byte) {
  const bool printable =
      (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  static int next = 256;
  static std::array<int, 256> points{};
  if (points[static_cast<std::size_t>(byte)] == 0)
    points[static_cast<std::size_t>(byte)] = printable ? byte : next++;
  const int point = points[static_cast<std::size_t>(byte)];
  if (point < 0x80) return std::string(1, static_cast<char>(point));
  return {static_cast<char>(0xc0 | point >> 6), static_cast<char>(0x80 | (point & 0x3f))};
}

/// All bytes in their order, then "th", "the", " the", and an added token.
Json small_tokenizer() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[spelling(byte)] = byte;
  vocabulary["th"] = 256;
  vocabulary["the"] = 257;
  vocabulary[spelling(' ') + "the"] = 258;
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 259}, {"content", "<|endoftext|>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model",
           {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"t h", "th e", spelling(' ') + " the"}}}}};
}

class Folder {
 public:
  std::string write(const Json& tokenizer) {
    const std::string path = directory_.file("tokenizer.json");
    REQUIRE(write_whole(path, to_text(tokenizer)).ok());
    return path;
  }
  std::string file(const std::string& name) const { return directory_.file(name); }

 private:
  TemporaryDirectory directory_;
};

std::string fault_of(const Json& tokenizer) {
  Folder folder;
  const auto opened = text::open_tokenizer(folder.write(tokenizer));
  if (opened.ok()) return "";
  const Diagnostic& fault = opened.faults().front();
  const std::string where = fault.where.substr(fault.where.find("tokenizer.json"));
  return where + ": " + fault.what;
}

TEST_CASE("text/tokenizer: merges go by rank and stay within a piece") {
  Folder folder;
  const auto tokenizer = text::open_tokenizer(folder.write(small_tokenizer()));
  REQUIRE(tokenizer.ok());
  CHECK((*tokenizer)->vocabulary_size() == 260);
  CHECK((*tokenizer)->end_of_text() == 259);
  CHECK(*(*tokenizer)->encode("the the  th") == Tokens{257, 258, ' ', ' ', 256});
  CHECK(*(*tokenizer)->encode("a<|endoftext|>the") == Tokens{'a', 259, 257});
  CHECK(*(*tokenizer)->encode("\xc3\xa9") == Tokens{0xc3, 0xa9});
  CHECK((*tokenizer)->encode("")->empty());
  const Tokens tokens = *(*tokenizer)->encode("the \xc3\xa9<|endoftext|>\n");
  CHECK((*tokenizer)->decode(tokens) == "the \xc3\xa9<|endoftext|>\n");
}

TEST_CASE("text/tokenizer: long words merge as short ones do") {
  Folder folder;
  Json document = small_tokenizer();
  document["model"]["vocab"]["aa"] = 260;
  document["model"]["vocab"]["aaaa"] = 261;
  document["model"]["merges"].push_back("a a");
  document["model"]["merges"].push_back("aa aa");
  const auto tokenizer = text::open_tokenizer(folder.write(document));
  REQUIRE(tokenizer.ok());
  for (const std::size_t count : {47, 48, 49, 1023, 200'000}) {
    Tokens want(count / 4, 261);
    if (count % 4 >= 2) want.push_back(260);
    if (count % 2 == 1) want.push_back('a');
    CHECK(*(*tokenizer)->encode(std::string(count, 'a')) == want);
  }
}

TEST_CASE("text/tokenizer: what is not UTF-8 is told with its line") {
  Folder folder;
  const auto tokenizer = text::open_tokenizer(folder.write(small_tokenizer()));
  REQUIRE(tokenizer.ok());
  for (const std::string bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    const auto tokens = (*tokenizer)->encode("two\nlines " + bad);
    REQUIRE_FALSE(tokens.ok());
    CHECK(tokens.faults().front().where == "line 2, byte 10");
  }
}

TEST_CASE("text/tokenizer: a tokenizer that would encode otherwise is refused by name") {
  Json document = small_tokenizer();
  document["normalizer"] = {{"type", "NFC"}};
  CHECK(fault_of(document) == "tokenizer.json#/normalizer: the normalizer \"NFC\" would change the text");
  document = small_tokenizer();
  document["pre_tokenizer"] = {{"type", "Metaspace"}};
  CHECK(fault_of(document) == "tokenizer.json#/pre_tokenizer/type: the step \"Metaspace\" is not known");
  document = small_tokenizer();
  document["model"]["type"] = "WordPiece";
  CHECK(fault_of(document) == "tokenizer.json#/model/type: the model is \"WordPiece\"");
  document = small_tokenizer();
  document["model"]["vocab"].erase("a");
  CHECK(fault_of(document) == "tokenizer.json#/model: byte 97 has no token");
  document = small_tokenizer();
  document["model"]["merges"].push_back("x y");
  CHECK(fault_of(document) ==
        "tokenizer.json#/model: merge 4, \"x y\", is of tokens that the vocabulary does not have");
  document = small_tokenizer();
  document["model"]["vocab"]["a"] = -1;
  CHECK(fault_of(document) == "tokenizer.json#/model: token \"a\" is number -1");
  document = small_tokenizer();
  document["added_tokens"][0]["lstrip"] = true;
  CHECK(fault_of(document) == "tokenizer.json#/added_tokens/0/lstrip: lstrip is true");
  document = small_tokenizer();
  document["surprise"] = 1;
  CHECK(fault_of(document).starts_with("tokenizer.json#/surprise"));
  for (const char* pattern : {"(", "a*", "\\bword", "^a", "[[a]]", "\\p{L}{1,2}+", "(?<n>a)"}) {
    document = small_tokenizer();
    document["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    CAPTURE(pattern);
    CHECK(fault_of(document).starts_with("tokenizer.json#/pre_tokenizer/pretokenizers/0/pattern/Regex: the"));
  }
}

TEST_CASE("text/tokenizer: a missing or foreign file is told") {
  Folder folder;
  CHECK_FALSE(text::open_tokenizer(folder.file("none.json")).ok());
  REQUIRE(write_whole(folder.file("tokenizer.model"), "not a protocol buffer").ok());
  const auto opened = text::open_tokenizer(folder.file("tokenizer.model"));
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.faults().front().what.starts_with("this is no SentencePiece model"));
  REQUIRE(write_whole(folder.file("vocab.json"), "{}").ok());
  CHECK_FALSE(text::open_tokenizer(folder.file("vocab.json")).ok());
}

TEST_CASE("text/corpus: tokens of a file are made once and found by content") {
  Folder folder;
  ::setenv("XDG_CACHE_HOME", folder.file("cache").c_str(), 1);
  const auto tokenizer = text::open_tokenizer(folder.write(small_tokenizer()));
  REQUIRE(tokenizer.ok());
  const std::string content = "the theft\n";
  REQUIRE(write_whole(folder.file("a.txt"), content).ok());
  REQUIRE(write_whole(folder.file("b.txt"), content).ok());
  int told = 0;
  const text::Encoder encoder{.tokenizer = tokenizer->get(),
                              .digest = "d",
                              .num_threads = 2,
                              .progress = [&](const std::string&, std::uint64_t, std::uint64_t) { ++told; }};
  const auto shard = text::tokens_of_file(folder.file("a.txt"), digest_of(content), encoder);
  REQUIRE(shard.ok());
  const auto again = text::tokens_of_file(folder.file("b.txt"), digest_of(content), encoder);
  REQUIRE(again.ok());
  CHECK(*again == *shard);
  CHECK(told == 1);
  auto opened = formats::TokenShard::open(*shard);
  REQUIRE(opened.ok());
  CHECK(opened->form() == formats::TokenShard::Form::llmc_16);
  const Tokens want{257, 258, 'f', 't', '\n', 259};
  REQUIRE(opened->size() == static_cast<std::int64_t>(want.size()));
  for (std::size_t i = 0; i < want.size(); ++i) CHECK((*opened)[static_cast<std::int64_t>(i)] == want[i]);

  REQUIRE(write_whole(folder.file("bad.txt"), "good line\n\xff\n").ok());
  const auto bad = text::tokens_of_file(folder.file("bad.txt"), "other", encoder);
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.faults().front().where == folder.file("bad.txt") + ", line 2, byte 10");
}

TEST_CASE("text/corpus: the end-of-text token follows every document whatever a document is") {
  Folder folder;
  ::setenv("XDG_CACHE_HOME", folder.file("cache").c_str(), 1);
  const auto tokenizer = text::open_tokenizer(folder.write(small_tokenizer()));
  REQUIRE(tokenizer.ok());
  constexpr text::Token kEnd = 259;
  struct Row {
    std::string documents;
    std::string content;
    Tokens want;
  };
  const std::vector<Row> rows = {
      {"line", "ab\n\n \t\nc\r\nd", {'a', 'b', kEnd, 'c', kEnd, 'd', kEnd}},
      {"blank-line", "\n\na\nb\n \n\nc\n", {'a', '\n', 'b', kEnd, 'c', kEnd}},
      {"blank-line", "a\r\nb", {'a', '\n', 'b', kEnd}},
      {"jsonl",
       "{\"text\": \"a\\nb\", \"id\": 3}\n\n{\"text\": \"\"}\n{\"text\": \"c\"}\n",
       {'a', '\n', 'b', kEnd, 'c', kEnd}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.documents);
    CAPTURE(row.content);
    REQUIRE(write_whole(folder.file("a.txt"), row.content).ok());
    for (const int num_threads : {1, 3}) {
      const text::Encoder encoder{.tokenizer = tokenizer->get(),
                                  .digest = "d" + std::to_string(num_threads),
                                  .num_threads = num_threads,
                                  .progress = {},
                                  .documents = row.documents};
      const auto shard = text::tokens_of_file(folder.file("a.txt"), digest_of(row.content), encoder);
      REQUIRE(shard.ok());
      const auto opened = formats::TokenShard::open(*shard);
      REQUIRE(opened.ok());
      REQUIRE(opened->size() == static_cast<std::int64_t>(row.want.size()));
      for (std::size_t i = 0; i < row.want.size(); ++i)
        CHECK((*opened)[static_cast<std::int64_t>(i)] == row.want[i]);
    }
  }
}

TEST_CASE("text/corpus: a faulty document is told at its line and another way of cutting is another shard") {
  Folder folder;
  ::setenv("XDG_CACHE_HOME", folder.file("cache").c_str(), 1);
  const auto tokenizer = text::open_tokenizer(folder.write(small_tokenizer()));
  REQUIRE(tokenizer.ok());
  const auto encode = [&](const std::string& documents, const std::string& content) {
    REQUIRE(write_whole(folder.file("a.txt"), content).ok());
    const text::Encoder encoder{.tokenizer = tokenizer->get(),
                                .digest = "d",
                                .num_threads = 2,
                                .progress = {},
                                .documents = documents};
    return text::tokens_of_file(folder.file("a.txt"), digest_of(content), encoder);
  };
  const std::string path = folder.file("a.txt");
  const auto utf8 = encode("line", "good\n\nba\xff\n");
  REQUIRE_FALSE(utf8.ok());
  CHECK(utf8.faults().front().where.starts_with(path + ":3, "));
  for (const char* line : {"[1]", "{\"txt\": \"a\"}", "{\"text\": 3}", "{\"text\": "}) {
    CAPTURE(line);
    const auto bad = encode("jsonl", std::string("{\"text\": \"a\"}\n") + line + "\n");
    REQUIRE_FALSE(bad.ok());
    CHECK(bad.faults().front().where.starts_with(path + ":2"));
  }
  CHECK_FALSE(encode("line", "\n \n").ok());
  const auto by_line = encode("line", "a\nb\n");
  const auto whole = encode("file", "a\nb\n");
  REQUIRE(by_line.ok());
  REQUIRE(whole.ok());
  CHECK(*by_line != *whole);
}

}  // namespace
}  // namespace saturn::testing
