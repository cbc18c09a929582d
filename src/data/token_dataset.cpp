// Samples of consecutive tokens: the bytes of text files, or ready token shards.
//
// Shapes: B samples, T tokens.

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "data/image_dataset.h"
#include "saturn/base/check.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/samples.h"
#include "saturn/data/dataset.h"
#include "saturn/formats/token_shard.h"

namespace saturn::data {
namespace {

/// The tokens of one file.
class TokenFile {
 public:
  virtual ~TokenFile() = default;
  virtual std::int64_t size() const = 0;
  virtual void copy(std::int64_t first, std::span<std::int64_t> into) const = 0;
};

/// A text file whose tokens are its bytes.
class ByteFile final : public TokenFile {
 public:
  static Result<std::unique_ptr<TokenFile>> open(const std::string& path) {
    FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return system_fault(path, "open", errno);
    if (!S_ISREG(status.st_mode) || status.st_size == 0)
      return Diagnostic{.where = path, .what = "this is empty or not a file", .expected = "text"};
    const auto size = static_cast<std::size_t>(status.st_size);
    void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (map == MAP_FAILED) return system_fault(path, "map", errno);
    return std::unique_ptr<TokenFile>(new ByteFile(static_cast<const unsigned char*>(map), size));
  }
  ~ByteFile() override { ::munmap(const_cast<unsigned char*>(bytes_), size_); }

  std::int64_t size() const override { return static_cast<std::int64_t>(size_); }
  void copy(std::int64_t first, std::span<std::int64_t> into) const override {
    std::copy_n(bytes_ + first, into.size(), into.begin());
  }

 private:
  ByteFile(const unsigned char* bytes, std::size_t size) : bytes_(bytes), size_(size) {}
  const unsigned char* bytes_;
  std::size_t size_;
};

class ShardFile final : public TokenFile {
 public:
  static Result<std::unique_ptr<TokenFile>> open(const std::string& path) {
    SATURN_TRY(formats::TokenShard shard, formats::TokenShard::open(path));
    return std::unique_ptr<TokenFile>(new ShardFile(std::move(shard)));
  }
  std::int64_t size() const override { return shard_.size(); }
  void copy(std::int64_t first, std::span<std::int64_t> into) const override { shard_.copy(first, into); }

 private:
  explicit ShardFile(formats::TokenShard shard) : shard_(std::move(shard)) {}
  formats::TokenShard shard_;
};

/// One run of tokens that samples are cut from.
struct Stretch {
  batch::Segment segment;
  std::unique_ptr<TokenFile> file;
  std::int64_t first_sample = 0;
};

class TokenDataset final : public Dataset {
 public:
  static Result<std::unique_ptr<Dataset>> open(const batch::DataSource& source, std::int64_t vocabulary) {
    SATURN_TRY(batch::Split split, batch::split_of(source));
    auto dataset = std::unique_ptr<TokenDataset>(new TokenDataset(source.sequence_length, vocabulary));
    SATURN_TRY_VOID(dataset->add(source.kind, split.training, dataset->training_));
    SATURN_TRY_VOID(dataset->add(source.kind, split.validation, dataset->validation_));
    return std::unique_ptr<Dataset>(std::move(dataset));
  }

  std::int64_t num_samples(Part part) const override {
    const std::vector<Stretch>& stretches = of(part);
    return stretches.empty() ? 0 : stretches.back().first_sample + stretches.back().segment.num_samples;
  }
  std::int64_t targets_per_sample() const override { return sequence_length_; }
  std::int64_t tokens_per_sample() const override { return sequence_length_; }

  Result<Samples> read(Part part, const std::vector<std::int64_t>& samples, const Draw&) const override {
    const auto rows = static_cast<std::int64_t>(samples.size());
    Samples read{at::empty({rows, sequence_length_}, at::kLong),
                 at::empty({rows, sequence_length_}, at::kLong)};
    auto* inputs_BT = read.inputs.mutable_data_ptr<std::int64_t>();
    auto* targets_BT = read.targets.mutable_data_ptr<std::int64_t>();
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(sequence_length_) + 1);
    for (std::int64_t row = 0; row < rows; ++row) {
      SATURN_TRY_VOID(read_sample(part, samples[static_cast<std::size_t>(row)], tokens));
      std::copy_n(tokens.begin(), sequence_length_, inputs_BT + row * sequence_length_);
      std::copy_n(tokens.begin() + 1, sequence_length_, targets_BT + row * sequence_length_);
    }
    return read;
  }

  Result<double> baseline_loss() const override {
    // Counts of the training targets, at most kSampled of them, spread evenly over the samples.
    constexpr std::int64_t kSampled = std::int64_t{1} << 25;
    const std::int64_t num_training = num_samples(Part::training);
    const std::int64_t stride = std::max<std::int64_t>(1, num_training * sequence_length_ / kSampled);
    std::vector<double> counts(static_cast<std::size_t>(vocabulary_), 1.0);
    SATURN_TRY_VOID(
        for_each_target(Part::training, stride, [&](std::int64_t token) { counts[token] += 1.0; }));
    const double log_total = std::log(std::accumulate(counts.begin(), counts.end(), 0.0));
    double sum = 0.0;
    std::int64_t num_targets = 0;
    SATURN_TRY_VOID(for_each_target(Part::validation, 1, [&](std::int64_t token) {
      sum += log_total - std::log(counts[token]);
      ++num_targets;
    }));
    return num_targets == 0 ? 0.0 : sum / static_cast<double>(num_targets);
  }

 private:
  TokenDataset(std::int64_t sequence_length, std::int64_t vocabulary)
      : sequence_length_(sequence_length), vocabulary_(vocabulary) {}

  const std::vector<Stretch>& of(Part part) const { return part == Part::training ? training_ : validation_; }

  Result<void> add(batch::DataKind kind, const std::vector<batch::Segment>& segments,
                   std::vector<Stretch>& stretches) {
    std::int64_t first_sample = 0;
    for (const batch::Segment& segment : segments) {
      if (segment.num_samples == 0) continue;
      SATURN_TRY(auto file, kind == batch::DataKind::text ? ByteFile::open(segment.path)
                                                          : ShardFile::open(segment.path));
      if (segment.first_token + segment.num_tokens > file->size())
        return Diagnostic{.where = segment.path,
                          .what = "the file became shorter while it was opened",
                          .expected = "data that does not change during the run"};
      stretches.push_back({segment, std::move(file), first_sample});
      first_sample += segment.num_samples;
    }
    return {};
  }

  /// The sequence_length + 1 tokens of one sample.
  Result<void> read_sample(Part part, std::int64_t sample, std::span<std::int64_t> tokens) const {
    const std::vector<Stretch>& stretches = of(part);
    auto after =
        std::upper_bound(stretches.begin(), stretches.end(), sample,
                         [](std::int64_t s, const Stretch& stretch) { return s < stretch.first_sample; });
    SATURN_CHECK(sample >= 0 && after != stretches.begin(), "a sample that exists is read");
    const Stretch& stretch = *std::prev(after);
    const std::int64_t index = sample - stretch.first_sample;
    SATURN_CHECK(index < stretch.segment.num_samples, "a sample that exists is read");
    const std::int64_t first = stretch.segment.first_token + index * sequence_length_;
    stretch.file->copy(first, tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i] >= vocabulary_)
        return Diagnostic{
            .where = stretch.segment.path,
            .what = "token " + std::to_string(first + static_cast<std::int64_t>(i)) + " is " +
                    std::to_string(tokens[i]),
            .expected = "tokens below the model's vocabulary of " + std::to_string(vocabulary_),
            .fix = "train on tokens of this model's tokenizer, or a model with more vocabulary"};
    return {};
  }

  template <class Visit>
  Result<void> for_each_target(Part part, std::int64_t stride, const Visit& visit) const {
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(sequence_length_) + 1);
    for (std::int64_t sample = 0; sample < num_samples(part); sample += stride) {
      SATURN_TRY_VOID(read_sample(part, sample, tokens));
      for (std::size_t i = 1; i < tokens.size(); ++i) visit(tokens[i]);
    }
    return {};
  }

  std::int64_t sequence_length_;
  std::int64_t vocabulary_;
  std::vector<Stretch> training_;
  std::vector<Stretch> validation_;
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_dataset(const batch::DataSource& source, std::int64_t vocabulary,
                                              int num_threads) {
  if (source.kind == batch::DataKind::images) return open_images(source, num_threads);
  return TokenDataset::open(source, vocabulary);
}

}  // namespace saturn::data
