// Images by index, decoded by several threads.
//
// Shapes: B samples, C channels, H and W pixels.

#include "data/image_dataset.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <string>

#include "data/image_transform.h"
#include "data/worker_pool.h"
#include "saturn/base/files.h"
#include "saturn/base/random.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/image_index.h"
#include "saturn/formats/image.h"

namespace saturn::data {
namespace {

using batch::ImageSample;
using formats::Image;
using formats::ImageSize;

constexpr std::uint64_t kLargestFile = std::uint64_t{256} << 20;
constexpr int kMostElongated = 64;  // resizing the shorter side makes a longer one larger yet

std::optional<std::string> read_exactly(int fd, const ImageSample& sample, const std::string& path) {
  std::string bytes(sample.size, '\0');
  const Result<void> read = read_all_at(fd, sample.offset, bytes.data(), bytes.size(), path);
  return read.ok() ? std::optional(std::move(bytes)) : std::nullopt;
}

class ImageDataset final : public Dataset {
 public:
  static Result<std::unique_ptr<Dataset>> open(const batch::DataSource& source, int num_threads) {
    SATURN_TRY(batch::ImageIndex index, batch::index_images(source));
    auto dataset = std::unique_ptr<ImageDataset>(new ImageDataset(source, std::move(index), num_threads));
    if (dataset->index_.in_shards) {
      for (const std::string& path : dataset->index_.sources) {
        FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file.valid()) return system_fault(path, "open", errno);
        dataset->shards_.push_back(std::move(file));
      }
    }
    return std::unique_ptr<Dataset>(std::move(dataset));
  }

  std::int64_t num_samples(Part part) const override { return static_cast<std::int64_t>(of(part).size()); }
  std::int64_t targets_per_sample() const override { return 1; }
  std::int64_t tokens_per_sample() const override { return 0; }

  Result<Samples> read(Part part, const std::vector<std::int64_t>& samples, const Draw& draw) const override {
    const auto rows = static_cast<std::int64_t>(samples.size());
    const std::int64_t side = settings_.size, channels = settings_.channels;
    Samples read{at::empty({rows, channels, side, side}, at::kFloat), at::empty({rows}, at::kLong)};
    auto* pixels_BCHW = read.inputs.mutable_data_ptr<float>();
    auto* targets_B = read.targets.mutable_data_ptr<std::int64_t>();
    std::mutex mutex;  // of `faults`
    Diagnostics faults;
    pool_.for_each(rows, [&](std::int64_t row) {
      const Result<std::int32_t> label = read_one(part, samples[static_cast<std::size_t>(row)], draw,
                                                  pixels_BCHW + row * channels * side * side);
      if (label.ok()) {
        targets_B[row] = *label;
        return;
      }
      std::lock_guard lock(mutex);
      faults = label.faults();
    });
    if (!faults.empty()) return faults;
    return read;
  }

  /// The entropy of the validation classes under the training classes' frequencies.
  Result<double> baseline_loss() const override {
    std::vector<double> counts(static_cast<std::size_t>(num_classes_), 1.0);
    for (const ImageSample& sample : index_.training) counts[static_cast<std::size_t>(sample.label)] += 1.0;
    const double log_total = std::log(std::accumulate(counts.begin(), counts.end(), 0.0));
    double sum = 0.0;
    for (const ImageSample& sample : index_.validation)
      sum += log_total - std::log(counts[static_cast<std::size_t>(sample.label)]);
    return index_.validation.empty() ? 0.0 : sum / static_cast<double>(index_.validation.size());
  }

  std::int64_t num_corrupt() const override {
    std::lock_guard lock(corrupt_mutex_);
    return static_cast<std::int64_t>(corrupt_.size());
  }

 private:
  ImageDataset(const batch::DataSource& source, batch::ImageIndex index, int num_threads)
      : settings_(source.images),
        num_classes_(source.vocabulary_size),
        index_(std::move(index)),
        pool_(num_threads) {}

  const std::vector<ImageSample>& of(Part part) const {
    return part == Part::training ? index_.training : index_.validation;
  }

  /// The label of what was read: of the sample, or where that is corrupt of the next good one after it.
  Result<std::int32_t> read_one(Part part, std::int64_t asked, const Draw& draw, float* into) const {
    const std::vector<ImageSample>& samples = of(part);
    const auto count = static_cast<std::int64_t>(samples.size());
    for (std::int64_t i = 0;; ++i) {
      const std::int64_t at = (asked + i) % count;
      const ImageSample& sample = samples[static_cast<std::size_t>(at)];
      SATURN_TRY(const std::string file, read_file(sample));
      const Result<void> cut =
          cut_one(part, file, mix_key(draw.seed, draw.epoch, asked), name_of(sample), into);
      if (cut.ok()) return sample.label;
      SATURN_TRY_VOID(pass_over(part, at, cut.faults()));
      if (i + 1 == count) return cut.faults();
    }
  }

  /// A file that is not what was indexed means that the data set has changed: no sample is to blame.
  Result<std::string> read_file(const ImageSample& sample) const {
    const auto changed = [&](const std::string& what) {
      return Diagnostic{.where = name_of(sample),
                        .what = what,
                        .expected = "data that does not change during the run",
                        .fix = "run again: the job begins anew where its data has changed"};
    };
    if (sample.size > kLargestFile) return std::string();  // no image: told as one that cannot be decoded
    if (index_.in_shards) {
      auto bytes = read_exactly(shards_[sample.source].get(), sample, index_.sources[sample.source]);
      if (!bytes) return changed("the shard became shorter while it was read");
      return *std::move(bytes);
    }
    const std::string path = name_of(sample);
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid())
      return errno == ENOENT ? changed("this image is gone") : system_fault(path, "open", errno);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return system_fault(path, "look at", errno);
    std::optional<std::string> bytes;
    if (static_cast<std::uint64_t>(status.st_size) == sample.size)
      bytes = read_exactly(file.get(), sample, path);
    if (!bytes) return changed("this image has another size than when the run began");
    return *std::move(bytes);
  }

  std::string name_of(const ImageSample& sample) const {
    const std::string& source = index_.sources[sample.source];
    return index_.in_shards ? source + "#/" + sample.name : join_path(source, sample.name);
  }

  Result<void> cut_one(Part part, const std::string& file, std::uint64_t key, const std::string& where,
                       float* into) const {
    SATURN_TRY(const ImageSize size, formats::size_of_image(file, where));
    if (std::max(size.width, size.height) > kMostElongated * std::min(size.width, size.height))
      return Diagnostic{.where = where,
                        .what = "the image has " + std::to_string(size.width) + " x " +
                                std::to_string(size.height) + " pixels",
                        .expected = "a shape of at most 64 to 1"};
    const Interpolation interpolation = interpolation_named(settings_.interpolation);
    const ImageSize side{settings_.size, settings_.size};
    const Rectangle all_of_side{0, 0, settings_.size, settings_.size};
    if (part == Part::validation) {
      SATURN_TRY(const Image image, formats::decode_image(file, {.channels = settings_.channels}, where));
      const CentreCrop crop = centre_crop({image.width, image.height}, settings_);
      normalise(resized(image, {0, 0, image.width, image.height}, crop.whole, interpolation), crop.square,
                false, settings_, into);
      return {};
    }
    Random random(key);
    const Rectangle crop = random_crop(random, size, settings_.least_area, settings_.most_area);
    const bool mirrored = settings_.flip && random.uniform() < 0.5;
    int reduce_by = 1;
    while (reduce_by < 8 && std::min(crop.width, crop.height) / (2 * reduce_by) >= settings_.size)
      reduce_by *= 2;
    SATURN_TRY(const Image image,
               formats::decode_image(file, {.channels = settings_.channels, .reduce_by = reduce_by}, where));
    // Where the decoder reduced the image, the crop lies in fewer pixels.
    const int divisor = image.width == size.width && image.height == size.height ? 1 : reduce_by;
    Rectangle reduced{crop.left / divisor, crop.top / divisor, std::max(1, crop.width / divisor),
                      std::max(1, crop.height / divisor)};
    reduced.width = std::min(reduced.width, image.width - reduced.left);
    reduced.height = std::min(reduced.height, image.height - reduced.top);
    normalise(resized(image, reduced, side, interpolation), all_of_side, mirrored, settings_, into);
    return {};
  }

  /// Counts a corrupt sample; too many are a fault.
  Result<void> pass_over(Part part, std::int64_t at, const Diagnostics& faults) const {
    std::lock_guard lock(corrupt_mutex_);
    corrupt_.insert({part, at});
    if (static_cast<std::int64_t>(corrupt_.size()) <= settings_.max_corrupt) return {};
    Diagnostics all = faults;
    all.push_back(
        {.where = index_.sources.front(),
         .what = std::to_string(corrupt_.size()) + " images cannot be read, the last one as told above",
         .expected = "at most max_corrupt = " + std::to_string(settings_.max_corrupt),
         .fix = "repair or remove them, or raise max_corrupt"});
    return all;
  }

  batch::ImageSettings settings_;
  std::int64_t num_classes_;
  batch::ImageIndex index_;
  std::vector<FileDescriptor> shards_;
  mutable std::mutex corrupt_mutex_;
  mutable std::set<std::pair<Part, std::int64_t>> corrupt_;
  mutable WorkerPool pool_;
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_images(const batch::DataSource& source, int num_threads) {
  return ImageDataset::open(source, num_threads);
}

}  // namespace saturn::data
