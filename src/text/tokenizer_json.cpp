// Reads tokenizer.json, and the older pair of vocab.json and merges.txt. What would not be encoded exactly as
// the file means it is refused by name.

#include <algorithm>
#include <string>
#include <string_view>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/nearest.h"
#include "text/byte_level_tokenizer.h"
#include "text/tokenizer_files.h"

namespace saturn::text {
namespace {

constexpr std::uint64_t kLargestFile = std::uint64_t{256} << 20;
constexpr const char* kSupported =
    "byte-level BPE, as GPT-2, GPT-J and LLaMA-3 have it, or a SentencePiece model";

/// Reads one tokenizer.json and collects what is wrong with it.
class Reader {
 public:
  Reader(const Json& document, const std::string& path) : document_(document), path_(path) {}

  Result<std::unique_ptr<Tokenizer>> read() {
    JsonReader file(document_, path_, "", faults_);
    file.any("version");
    file.any("truncation");
    file.any("padding");
    file.any("post_processor");  // adds tokens around a text, which a corpus does not want
    file.any("decoder");
    const Json& normalizer = file.any("normalizer");
    if (!is_nothing(normalizer))
      file.fault("normalizer", "the normalizer " + type_of(normalizer) + " would change the text",
                 kSupported);
    read_pre_tokenizer(file.any("pre_tokenizer"), "/pre_tokenizer");
    if (faults_.empty() && !byte_level_)
      file.fault("pre_tokenizer", "there is no step \"ByteLevel\"", kSupported,
                 "name the SentencePiece model instead, where there is one (tokenizer.model)");
    read_added(file);
    read_model(file.child("model"));
    file.finish();
    if (!faults_.empty()) return faults_;
    return make_byte_level(std::move(parts_), path_ + "#/model");
  }

 private:
  static std::string type_of(const Json& step) {
    return step.is_object() && step.contains("type") && step["type"].is_string()
               ? in_quotes(step["type"].get<std::string>())
               : "without a type";
  }

  /// Absent, or a sequence of nothing.
  static bool is_nothing(const Json& step) {
    return step.is_null() || (type_of(step) == in_quotes("Sequence") && step.contains("normalizers") &&
                              step["normalizers"].empty());
  }

  void refuse(const std::string& pointer, std::string what, std::string expected) {
    faults_.push_back(
        {.where = path_ + "#" + pointer, .what = std::move(what), .expected = std::move(expected)});
  }

  void add_splitter(const std::string& pattern, const std::string& pointer) {
    auto splitter = Splitter::compile(pattern, path_ + "#" + pointer);
    if (splitter.ok()) {
      parts_.splitters.push_back(*std::move(splitter));
    } else {
      for (Diagnostic& fault : std::move(splitter).faults()) faults_.push_back(std::move(fault));
    }
  }

  void read_pre_tokenizer(const Json& step, const std::string& pointer) {
    if (step.is_null()) return;
    JsonReader reader(step, path_, pointer, faults_);
    const std::string type = reader.string("type");
    if (byte_level_) refuse(pointer, "a step follows \"ByteLevel\"", "\"ByteLevel\" as the last step");
    if (type == "Sequence") {
      const Json& steps = reader.array("pretokenizers");
      for (std::size_t i = 0; i < steps.size(); ++i)
        read_pre_tokenizer(steps[i], pointer + "/pretokenizers/" + std::to_string(i));
    } else if (type == "ByteLevel") {
      parts_.prefix_space = reader.boolean_or("add_prefix_space", true);
      reader.boolean_or("trim_offsets", true);
      if (parts_.prefix_space && !parts_.splitters.empty())
        reader.fault("add_prefix_space", "a space would be put before every piece",
                     "add_prefix_space false behind other steps");
      if (reader.boolean_or("use_regex", true)) add_splitter(kGpt2Pattern, pointer);
      if (parts_.splitters.empty())
        reader.fault("use_regex", "nothing cuts the text into pieces", "use_regex true, or a step \"Split\"");
      byte_level_ = true;
    } else if (type == "Split") {
      const std::string behaviour = reader.string("behavior");
      if (behaviour != "Isolated")
        reader.fault("behavior", "behavior is " + in_quotes(behaviour), "\"Isolated\"");
      if (reader.boolean_or("invert", false)) reader.fault("invert", "invert is true", "false");
      JsonReader pattern = reader.child("pattern");
      if (pattern.has("Regex")) {
        add_splitter(pattern.string("Regex"), pointer + "/pattern/Regex");
      } else {
        add_splitter(escaped(pattern.string("String")), pointer + "/pattern/String");
      }
      pattern.finish();
    } else if (type == "Digits") {
      add_splitter(reader.boolean_or("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", pointer);
    } else {
      reader.fault("type", "the step " + in_quotes(type) + " is not known",
                   "Sequence, Split, Digits or ByteLevel: " + std::string(kSupported));
      return;
    }
    reader.finish();
  }

  static std::string escaped(const std::string& literal) {
    std::string pattern;
    for (const char c : literal) {
      if (std::string_view(R"(\^$.[]|()?*+{}-)").find(c) != std::string_view::npos) pattern += '\\';
      pattern += c;
    }
    return pattern;
  }

  void read_added(JsonReader& file) {
    const Json& added = file.array_or_empty("added_tokens");
    for (std::size_t i = 0; i < added.size(); ++i) {
      JsonReader one = file.child("added_tokens", i);
      AddedToken token{.content = one.string("content"), .token = static_cast<Token>(one.integer("id"))};
      for (const char* flag : {"single_word", "lstrip", "rstrip"})
        if (one.boolean_or(flag, false))
          one.fault(flag, std::string(flag) + " is true", "an added token that is taken as it is spelled");
      one.boolean_or("normalized", false);
      one.boolean_or("special", false);
      one.finish();
      parts_.added.push_back(std::move(token));
    }
  }

  void read_model(JsonReader model) {
    if (const std::string type = model.string_or("type", "BPE"); type != "BPE")
      model.fault("type", "the model is " + in_quotes(type), kSupported);
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = model.any(key);
      const bool harmless =
          value.is_null() || (value.is_string() && value.get<std::string>().empty()) ||
          std::string_view(key) == "unk_token";  // every byte has a token, so none is unknown
      if (!harmless) model.fault(key, std::string(key) + " is set", "null");
    }
    model.boolean_or("fuse_unk", false);
    if (model.boolean_or("byte_fallback", false))
      model.fault("byte_fallback", "byte_fallback is true", "false: " + std::string(kSupported));
    parts_.ignore_merges = model.boolean_or("ignore_merges", false);
    const Json& vocabulary = model.object("vocab");
    parts_.vocabulary.reserve(vocabulary.size());
    for (const auto& [spelling, token] : vocabulary.items()) {
      if (!token.is_number_integer()) {
        refuse("/model/vocab", "the token of " + in_quotes(spelling) + " is " + token.dump(), "an integer");
        return;
      }
      parts_.vocabulary.emplace_back(spelling, token.get<Token>());
    }
    const Json& merges = model.array("merges");
    parts_.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const Json& merge = merges[i];
      if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const std::size_t space = text.find(' ');
        if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
          parts_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
          continue;
        }
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        parts_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        continue;
      }
      refuse("/model/merges/" + std::to_string(i), merge.dump() + " is not a merge", "\"left right\"");
      return;
    }
    model.finish();
  }

  const Json& document_;
  std::string path_;
  Diagnostics faults_;
  ByteLevelParts parts_;
  bool byte_level_ = false;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string& path) {
  SATURN_TRY(const std::string text, read_whole(path, kLargestFile));
  SATURN_TRY(const Json document, parse_json(text, path));
  return Reader(document, path).read();
}

Result<std::unique_ptr<Tokenizer>> read_vocabulary_and_merges(const std::string& vocabulary_path,
                                                              const std::string& merges_path) {
  SATURN_TRY(const std::string vocabulary_text, read_whole(vocabulary_path, kLargestFile));
  SATURN_TRY(const Json vocabulary, parse_json(vocabulary_text, vocabulary_path));
  SATURN_TRY(const std::string merges_text, read_whole(merges_path, kLargestFile));
  if (!vocabulary.is_object() || vocabulary.empty())
    return Diagnostic{
        .where = vocabulary_path, .what = "this is no vocabulary", .expected = "{\"token\": number, ..}"};

  ByteLevelParts parts;
  for (const auto& [spelling, token] : vocabulary.items()) {
    if (!token.is_number_integer())
      return Diagnostic{.where = vocabulary_path,
                        .what = "the token of " + in_quotes(spelling) + " is " + token.dump(),
                        .expected = "an integer"};
    parts.vocabulary.emplace_back(spelling, token.get<Token>());
  }
  int line_number = 0;
  for (std::size_t from = 0; from < merges_text.size();) {
    const std::size_t end = std::min(merges_text.find('\n', from), merges_text.size());
    std::string_view line(merges_text.data() + from, end - from);
    from = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
      return Diagnostic{.where = position(merges_path, line_number, 1),
                        .what = in_quotes(std::string(line.substr(0, 40))) + " is not a merge",
                        .expected = "two tokens with a space between them"};
    parts.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  // GPT-2's class adds this token itself; in the vocabulary alone it would be spelled out by merges.
  for (const auto& [spelling, token] : parts.vocabulary)
    if (spelling == "<|endoftext|>") parts.added.push_back({spelling, token});
  SATURN_TRY(Splitter splitter, Splitter::compile(kGpt2Pattern, vocabulary_path));
  parts.splitters.push_back(std::move(splitter));
  return make_byte_level(std::move(parts), vocabulary_path);
}

}  // namespace saturn::text
