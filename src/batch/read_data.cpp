// Looks up the files of each data source, counts their tokens and checks that a sample fits.

#include "batch/read_data.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <sstream>
#include <thread>

#include "batch/batch_schema.h"
#include "batch/data_files.h"
#include "batch/expand.h"
#include "batch/file_facts.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/batch/image_index.h"
#include "saturn/formats/token_shard.h"
#include "saturn/text/tokenizer.h"

namespace saturn::batch {
namespace {

constexpr const char* kBytes = "bytes";
constexpr int kByteVocabulary = 256;
constexpr int kVocabulary16 = 50257;   // GPT-2's
constexpr int kVocabulary32 = 128256;  // LLaMA-3's

// Files of one path: as shown in messages, absolute in the source, counted.
struct FileList {
  std::vector<std::string> shown;
  std::vector<std::int64_t> counts;
  bool good = true;
};

class Reader {
 public:
  Reader(const std::string& name, const TomlValue& table, const std::string& base_directory,
         const text::CorpusProgress& progress, Faults& faults)
      : table_(table),
        base_directory_(base_directory),
        progress_(progress),
        faults_(faults),
        whose_("data " + in_quotes(name) + ": ") {
    data_.source.name = name;
  }

  ReadData read() {
    const std::size_t before = faults_.count();
    read_keys(schema_of("data"), table_,
              {.target = &draft_, .positions = &data_.source.positions, .prefix = "", .whose = whose_},
              faults_);
    data_.source.positions[""] = faults_.at(table_.place);
    if (faults_.count() != before) return data_;
    if (draft_.kind == "images") {
      read_images();
      data_.usable = faults_.count() == before;
      return data_;
    }
    settle();
    if (draft_.sequence_length == 0) return data_;
    const FileList training = files_at("path", draft_.path, data_.source.files);
    FileList validation;
    if (!draft_.validation_path.empty()) {
      validation = files_at("validation", draft_.validation_path, data_.source.validation_files);
    }
    if (!training.good || !validation.good) return data_;
    settle_vocabulary(training, validation);
    data_.split = cut(data_.source, {training.counts, validation.counts});
    check_lengths(training, validation);
    data_.usable = faults_.count() == before;
    return data_;
  }

 private:
  // Keys that are written and belong to other kinds of data.
  void refuse_keys(std::initializer_list<const char*> keys, const std::string& kind) {
    for (const char* key : keys) {
      if (const auto it = data_.source.positions.find(key); it != data_.source.positions.end())
        faults_.add(it->second, whose_ + key + " is set, and data of kind " + in_quotes(kind) + " have none",
                    std::string("no ") + key, "remove the line");
    }
  }

  void require_key(const std::string& key, int value, const std::string& example) {
    if (value == 0)
      faults_.add(position_of(""), whose_ + key + " is missing", "an integer of at least 1",
                  "add " + key + " = " + example);
  }

  void read_images() {
    refuse_keys({"tokenizer", "documents", "sequence_length", "vocabulary_size"}, "images");
    require_key("image_size", draft_.image_size, "224");
    DataSource& source = data_.source;
    source.kind = DataKind::images;
    source.tokenizer = "";
    source.validation_share = draft_.validation_path.empty() ? draft_.validation_share : 0.0;
    ImageSettings& images = source.images;
    images.size = draft_.image_size;
    images.channels = draft_.channels;
    images.resize = draft_.resize;
    images.least_area = draft_.crop_area[0];
    images.most_area = draft_.crop_area[1];
    images.interpolation = draft_.interpolation;
    images.flip = draft_.flip;
    images.max_corrupt = draft_.max_corrupt;
    if (draft_.channels == 2)
      faults_.add(position_of("channels"), whose_ + "channels = 2", "3 of colour, or 1 of grey",
                  "set channels = 3");
    if (!(images.least_area > 0.0 && images.least_area <= images.most_area))
      faults_.add(position_of("crop_area"), whose_ + "crop_area has no area",
                  "two shares above 0, the smaller one first", "set crop_area = [0.08, 1.0]");
    if (images.resize != 0 && images.resize < images.size)
      faults_.add(position_of("resize"),
                  whose_ + "resize = " + std::to_string(images.resize) +
                      " leaves less than image_size = " + std::to_string(images.size),
                  "at least image_size", "set resize = " + std::to_string(images.size * 8 / 7));
    settle_channels("mean", draft_.mean, {0.485, 0.456, 0.406}, 0.449, images.mean);
    settle_channels("std", draft_.std, {0.229, 0.224, 0.225}, 0.226, images.deviation);
    for (const double deviation : images.deviation)
      if (deviation == 0.0)
        faults_.add(position_of("std"), whose_ + "std holds a 0", "numbers above 0",
                    "remove the line for ImageNet's");
    if (!draft_.labels.empty()) read_labels();
    image_sources("path", draft_.path, source.files);
    if (!draft_.validation_path.empty())
      image_sources("validation", draft_.validation_path, source.validation_files);
    if (source.files.empty() || (source.validation_files.empty() && !draft_.validation_path.empty())) return;
    auto index = index_images(source);
    if (!index.ok()) {
      tell(position_of("path"), std::move(index).faults());
      return;
    }
    data_.split.num_training_samples = static_cast<std::int64_t>(index->training.size());
    data_.split.num_validation_samples = static_cast<std::int64_t>(index->validation.size());
    if (index->training.empty())
      faults_.add(position_of("path"), whose_ + "there is no image to train on", "at least one",
                  "put images there");
    const bool wants_validation = !draft_.validation_path.empty() || source.validation_share > 0;
    if (wants_validation && index->validation.empty())
      faults_.add(position_of("validation"), whose_ + "there is no image to validate on", "at least one",
                  "set a larger validation, or validation = 0 for none");
  }

  void settle_channels(const std::string& key, const std::vector<double>& written,
                       const std::vector<double>& colour, double grey, std::vector<double>& into) {
    const auto num_channels = static_cast<std::size_t>(draft_.channels);
    into = !written.empty() ? written : draft_.channels == 1 ? std::vector<double>{grey} : colour;
    if (!written.empty() && written.size() != num_channels)
      faults_.add(position_of(key),
                  whose_ + key + " has " + std::to_string(written.size()) + " numbers for " +
                      std::to_string(num_channels) + " channels",
                  "one number for each channel", "set channels, or correct " + key);
  }

  // One class a line; an empty line at the end is none.
  void read_labels() {
    const std::string path = join_path(base_directory_, draft_.labels);
    auto content = read_whole(path, std::uint64_t{64} << 20);
    if (!content.ok()) {
      tell(position_of("labels"), std::move(content).faults());
      return;
    }
    std::vector<std::string>& classes = data_.source.images.classes;
    std::set<std::string> seen;
    std::istringstream lines(*content);
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (line.empty() || !seen.insert(line).second) {
        faults_.add(position_of("labels"),
                    whose_ + path + ":" + std::to_string(classes.size() + 1) +
                        (line.empty() ? ": an empty line" : ": class " + in_quotes(line) + " a second time"),
                    "each class once", "correct the file");
        return;
      }
      classes.push_back(line);
    }
    if (classes.empty())
      faults_.add(position_of("labels"), whose_ + path + " is empty", "a class on each line",
                  "correct the file");
  }

  // A folder, a shard, or shards by a pattern.
  void image_sources(const std::string& key, const std::string& written, std::vector<std::string>& absolute) {
    const std::string path = join_path(base_directory_, written);
    std::error_code error;
    std::vector<std::string> found;
    if (std::filesystem::is_directory(path, error)) {
      found.push_back(path);
    } else {
      auto files = resolve_files(path);
      if (!files.ok()) {
        Diagnostics faults = std::move(files).faults();
        for (Diagnostic& fault : faults)
          fault.expected = "a folder with one folder for each class, or tar shards";
        tell(position_of(key), std::move(faults));
        return;
      }
      found = *std::move(files);
    }
    for (const std::string& one : found)
      absolute.push_back(std::filesystem::absolute(one, error).lexically_normal().string());
    for (std::string& one : absolute)
      if (one.size() > 1 && one.ends_with('/')) one.pop_back();
  }

  // What the draft says, and which of its keys do not belong to its kind.
  void settle() {
    refuse_keys({"image_size", "channels", "resize", "crop_area", "interpolation", "flip", "mean", "std",
                 "max_corrupt", "labels"},
                draft_.kind);
    require_key("sequence_length", draft_.sequence_length, "128");
    DataSource& source = data_.source;
    source.kind = draft_.kind == "tokens" ? DataKind::tokens : DataKind::text;
    source.sequence_length = draft_.sequence_length;
    source.validation_share = draft_.validation_path.empty() ? draft_.validation_share : 0.0;
    if (source.kind == DataKind::tokens) {
      source.tokenizer = "";
      if (const auto it = source.positions.find("tokenizer"); it != source.positions.end()) {
        faults_.add(it->second, whose_ + "tokenizer is set, but its files hold tokens already",
                    "no tokenizer", "remove the line, or set kind = \"text\"");
      }
    } else {
      source.tokenizer = draft_.tokenizer;
      if (const auto it = source.positions.find("vocabulary_size"); it != source.positions.end()) {
        faults_.add(it->second, whose_ + "vocabulary_size is set, but the tokenizer decides it",
                    "no vocabulary_size", "remove the line, or set kind = \"tokens\"");
      }
      source.documents = draft_.documents;
      if (source.tokenizer != kBytes) open_tokenizer();
    }
    const auto documents = source.positions.find("documents");
    if (documents != source.positions.end() && (source.tokenizer.empty() || source.tokenizer == kBytes)) {
      faults_.add(documents->second,
                  whose_ + "documents is set, and " +
                      (source.tokenizer.empty() ? "files of tokens are cut already"
                                                : "bytes have no token between them"),
                  "documents only for text with a tokenizer",
                  "remove the line, or set tokenizer to a tokenizer.json");
    }
  }

  // Text that a tokenizer makes into tokens is from here on a data source of those tokens.
  void open_tokenizer() {
    DataSource& source = data_.source;
    std::error_code error;
    source.tokenizer = std::filesystem::absolute(join_path(base_directory_, source.tokenizer), error)
                           .lexically_normal()
                           .string();
    std::string content;
    auto files = text::tokenizer_files(source.tokenizer);
    auto tokenizer = text::open_tokenizer(source.tokenizer);
    if (files.ok()) {
      for (const std::string& file : *files) {
        auto digest = digest_of_file(file);
        if (digest.ok()) content += *digest;
      }
    }
    if (!tokenizer.ok()) {
      tell(position_of("tokenizer"), std::move(tokenizer).faults());
      return;
    }
    tokenizer_ = *std::move(tokenizer);
    tokenizer_digest_ = digest_of(content);
    source.kind = DataKind::tokens;
    source.vocabulary_size = tokenizer_->vocabulary_size();
  }

  void tell(const SourcePosition& at, Diagnostics found) {
    for (Diagnostic& fault : found) {
      const bool says_where = fault.what.find(fault.where) != std::string::npos;
      faults_.add(at, whose_ + (says_where ? "" : fault.where + ": ") + fault.what, fault.expected,
                  fault.fix);
    }
  }

  // The file that training reads in place of `file`: itself, or the tokens of its text.
  Result<std::string> to_tokens(const std::string& file) const {
    if (!tokenizer_) return file;
    SATURN_TRY(const std::string digest, remembered_digest(file));
    return text::tokens_of_file(
        file, digest,
        {.tokenizer = tokenizer_.get(),
         .digest = tokenizer_digest_,
         .num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
         .progress = progress_,
         .documents = data_.source.documents});
  }

  FileList files_at(const std::string& key, const std::string& written, std::vector<std::string>& absolute) {
    FileList list;
    const SourcePosition at = position_of(key);
    const auto tell_all = [&](Diagnostics found) {
      list.good = false;
      tell(at, std::move(found));
    };
    auto files = resolve_files(join_path(base_directory_, written));
    if (!files.ok()) {
      tell_all(std::move(files).faults());
      return list;
    }
    for (const std::string& file : *files) {
      auto readable = to_tokens(file);
      if (!readable.ok()) {
        tell_all(std::move(readable).faults());
        continue;
      }
      auto count = count_tokens(*readable, data_.source.kind);
      if (!count.ok()) {
        tell_all(std::move(count).faults());
        continue;
      }
      list.shown.push_back(file);
      list.counts.push_back(*count);
      std::error_code error;
      absolute.push_back(std::filesystem::absolute(*readable, error).lexically_normal().string());
    }
    return list;
  }

  // Tokens: one width for all files, and every token below the vocabulary.
  void settle_vocabulary(const FileList& training, const FileList& validation) {
    DataSource& source = data_.source;
    if (tokenizer_) return;
    source.vocabulary_size = kByteVocabulary;
    if (source.kind != DataKind::tokens) return;
    source.vocabulary_size = draft_.vocabulary_size;
    int width = 0;
    const auto check = [&](const std::string& key, const std::vector<std::string>& files) {
      const SourcePosition at = position_of(key);
      for (const std::string& file : files) {
        auto shard = formats::TokenShard::open(file);
        if (!shard.ok()) continue;  // told by count_tokens, or gone since
        if (width == 0) width = shard->width_bytes();
        if (source.vocabulary_size == 0) source.vocabulary_size = width == 4 ? kVocabulary32 : kVocabulary16;
        if (shard->width_bytes() != width) {
          faults_.add(at,
                      whose_ + file + " holds tokens of " + std::to_string(8 * shard->width_bytes()) +
                          " bits, and the files before it of " + std::to_string(8 * width),
                      "one kind of token file", "make two data sources of them");
          continue;
        }
        if (const auto good = shard->check_vocabulary(source.vocabulary_size); !good.ok()) {
          for (const Diagnostic& fault : good.faults()) {
            faults_.add(at, whose_ + file + ": " + fault.what, fault.expected, fault.fix);
          }
        }
      }
    };
    check("path", training.shown);
    check("validation", validation.shown);
  }

  void check_lengths(const FileList& training, const FileList& validation) {
    const DataSource& source = data_.source;
    const std::string line = std::to_string(position_of("sequence_length").line);
    const std::string wanted =
        std::to_string(source.sequence_length + 1) +
        " tokens: one sample of sequence_length = " + std::to_string(source.sequence_length) + " (line " +
        line + ") and the token after it";
    const auto tell = [&](const std::string& key, const std::string& what, std::int64_t longest) {
      faults_.add(position_of(key), whose_ + what, "at least " + wanted,
                  longest >= 2 ? "lower sequence_length to at most " + std::to_string(longest - 1) +
                                     ", or give longer data"
                               : "give longer data");
    };
    const auto longest = [](const std::vector<Segment>& segments) {
      std::int64_t most = 0;
      for (const Segment& one : segments) most = std::max(most, one.num_tokens);
      return most;
    };
    const std::int64_t in_training = longest(data_.split.training);
    if (data_.split.num_training_samples == 0) {
      const bool whole = source.validation_share == 0.0;
      tell("path",
           summary(training) + (whole ? "" : ", of which validation leaves " + std::to_string(in_training)),
           in_training);
      return;
    }
    if (!source.validation_files.empty() && data_.split.num_validation_samples == 0) {
      tell("validation", summary(validation), longest(data_.split.validation));
    } else if (source.validation_share > 0 && data_.split.num_validation_samples == 0) {
      faults_.add(position_of("validation"),
                  whose_ + "validation = " + toml_text(source.validation_share) + " holds out " +
                      std::to_string(longest(data_.split.validation)) + " of " +
                      std::to_string(total(training)) + " tokens",
                  "at least " + wanted, "set a larger validation, or validation = 0 for none");
    }
  }

  static std::int64_t total(const FileList& list) {
    std::int64_t sum = 0;
    for (const std::int64_t count : list.counts) sum += count;
    return sum;
  }

  static std::string summary(const FileList& list) {
    const std::string files = list.shown.size() == 1 ? list.shown.front() + " holds "
                                                     : std::to_string(list.shown.size()) + " files hold ";
    const std::int64_t tokens = total(list);
    return files + std::to_string(tokens) + (tokens == 1 ? " token" : " tokens");
  }

  SourcePosition position_of(const std::string& key) const {
    const auto it = data_.source.positions.find(key);
    return it != data_.source.positions.end() ? it->second : data_.source.positions.at("");
  }

  const TomlValue& table_;
  const std::string& base_directory_;
  const text::CorpusProgress& progress_;
  Faults& faults_;
  std::string whose_;
  std::unique_ptr<text::Tokenizer> tokenizer_;  // null where files are read as they are
  std::string tokenizer_digest_;
  DataDraft draft_;
  ReadData data_;
};

}  // namespace

std::map<std::string, ReadData> read_data(const TomlValue& tables, const std::string& base_directory,
                                          const text::CorpusProgress& progress, Faults& faults) {
  std::map<std::string, ReadData> all;
  for (const TomlMember& member : tables.members) {
    if (member.value.type != TomlValue::Type::table) {
      faults.add(member.key_place, "data." + member.key + " is " + name_of(member.value.type),
                 "a table, as [data.corpus]", "write [data.NAME] above its keys");
      continue;
    }
    if (const std::string problem = name_problem(member.key); !problem.empty()) {
      faults.add(member.key_place, "data source " + in_quotes(member.key) + " cannot be named so", problem,
                 "write [data.corpus]");
    }
    all[member.key] = Reader(member.key, member.value, base_directory, progress, faults).read();
  }
  return all;
}

}  // namespace saturn::batch
