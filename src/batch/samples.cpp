// Files to tokens to samples to steps.

#include "saturn/batch/samples.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>

#include "batch/data_files.h"
#include "saturn/base/files.h"
#include "saturn/batch/image_index.h"
#include "saturn/formats/token_shard.h"

namespace saturn::batch {
namespace {

Segment segment(const std::string& path, std::int64_t first, std::int64_t count, int sequence_length) {
  // The last token of a segment is only ever predicted.
  const std::int64_t samples = count > 0 ? (count - 1) / sequence_length : 0;
  return {.path = path, .first_token = first, .num_tokens = count, .num_samples = samples};
}

void append(std::vector<Segment>& segments, std::int64_t& num_samples, Segment one) {
  if (one.num_tokens == 0) return;
  num_samples += one.num_samples;
  segments.push_back(std::move(one));
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::string counted(std::int64_t n, const char* noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

}  // namespace

Result<std::vector<std::string>> resolve_files(const std::string& path) {
  std::error_code error;
  const std::string pattern = file_name_of(path);
  const bool is_pattern = pattern.find_first_of("*?") != std::string::npos;
  if (!is_pattern || std::filesystem::exists(path, error)) {
    if (std::filesystem::is_directory(path, error)) {
      return Diagnostic{.where = path,
                        .what = in_quotes(path) + " is a directory",
                        .expected = "a file, or a pattern such as \"train_*.bin\"",
                        .fix = "name the files in it: " + in_quotes(join_path(path, "*train*.bin"))};
    }
    if (!std::filesystem::exists(path, error)) {
      return Diagnostic{.where = path,
                        .what = in_quotes(path) + " does not exist",
                        .expected = "a file; relative paths start at the batch file's folder",
                        .fix = "correct the path, or put the file there"};
    }
    return std::vector<std::string>{path};
  }
  std::vector<std::string> files;
  for (std::filesystem::directory_iterator it(directory_of(path), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (::fnmatch(pattern.c_str(), name.c_str(), FNM_PERIOD) == 0)
      files.push_back(join_path(directory_of(path), name));
  }
  if (files.empty()) {
    return Diagnostic{.where = path,
                      .what = "nothing matches " + in_quotes(path),
                      .expected = "at least one file",
                      .fix = "ls " + directory_of(path)};
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<std::int64_t> count_tokens(const std::string& path, DataKind kind) {
  if (kind == DataKind::tokens) {
    SATURN_TRY(const formats::TokenShard shard, formats::TokenShard::open(path));
    return shard.size();
  }
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return system_fault(path, "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_fault(path, "look at", errno);
  if (!S_ISREG(status.st_mode)) {
    return Diagnostic{.where = path, .what = "this is not a regular file", .expected = "a text file"};
  }
  if (status.st_size == 0) {
    return Diagnostic{
        .where = path, .what = "the file is empty", .expected = "text", .fix = "put the text there"};
  }
  return static_cast<std::int64_t>(status.st_size);
}

Split cut(const DataSource& data, const Cut& counts) {
  Split split;
  const int length = data.sequence_length;
  std::int64_t total = 0;
  for (const std::int64_t count : counts.training_counts) total += count;
  const bool held_out = data.validation_files.empty();
  const auto num_held_out =
      held_out ? static_cast<std::int64_t>(std::floor(static_cast<double>(total) * data.validation_share))
               : 0;

  std::int64_t to_training = total - num_held_out;
  for (std::size_t i = 0; i < counts.training_counts.size(); ++i) {
    const std::int64_t count = counts.training_counts[i];
    const std::int64_t kept = std::min(count, to_training);
    to_training -= kept;
    append(split.training, split.num_training_samples, segment(data.files[i], 0, kept, length));
    append(split.validation, split.num_validation_samples,
           segment(data.files[i], kept, count - kept, length));
  }
  for (std::size_t i = 0; i < counts.validation_counts.size(); ++i) {
    append(split.validation, split.num_validation_samples,
           segment(data.validation_files[i], 0, counts.validation_counts[i], length));
  }
  return split;
}

namespace {

Result<Split> split_of_images(const DataSource& data) {
  SATURN_TRY(const ImageIndex index, index_images(data));
  Split split;
  split.num_training_samples = static_cast<std::int64_t>(index.training.size());
  split.num_validation_samples = static_cast<std::int64_t>(index.validation.size());
  if (split.num_training_samples == 0) {
    return Diagnostic{.where = data.files.empty() ? data.name : data.files.front(),
                      .what = "data " + in_quotes(data.name) + " leaves no image to train on",
                      .expected = "at least one"};
  }
  return split;
}

}  // namespace

Result<Split> split_of(const DataSource& data) {
  if (data.kind == DataKind::images) return split_of_images(data);
  Cut counts;
  Diagnostics faults;
  const auto count_all = [&](const std::vector<std::string>& files, std::vector<std::int64_t>& into) {
    for (const std::string& file : files) {
      auto count = count_tokens(file, data.kind);
      if (count.ok()) {
        into.push_back(*count);
      } else {
        for (Diagnostic& fault : std::move(count).faults()) faults.push_back(std::move(fault));
      }
    }
  };
  count_all(data.files, counts.training_counts);
  count_all(data.validation_files, counts.validation_counts);
  if (!faults.empty()) return faults;

  Split split = cut(data, counts);
  const std::string sample =
      "a sample of " + counted(data.sequence_length, "token") + " and the one after it";
  if (split.num_training_samples == 0) {
    return Diagnostic{.where = data.files.empty() ? data.name : data.files.front(),
                      .what = "data " + in_quotes(data.name) + " leaves no sample to train on",
                      .expected = sample};
  }
  const bool wants_validation = !data.validation_files.empty() || data.validation_share > 0;
  if (wants_validation && split.num_validation_samples == 0) {
    return Diagnostic{
        .where = data.validation_files.empty() ? data.files.front() : data.validation_files.front(),
        .what = "data " + in_quotes(data.name) + " leaves no sample to validate on",
        .expected = sample};
  }
  return split;
}

std::int64_t steps_per_epoch(const Job& job, std::int64_t num_training_samples) {
  return std::max<std::int64_t>(1, ceil_divide(num_training_samples, job.batch_size));
}

std::int64_t steps_of(const Job& job, const DataSource& data, std::int64_t num_training_samples) {
  constexpr double kMostSteps = 1e15;  // beyond any run, within 64 bits
  const auto per_epoch = static_cast<double>(steps_per_epoch(job, num_training_samples));
  const auto samples = static_cast<double>(std::max<std::int64_t>(1, num_training_samples));
  // Steps of so many samples, epoch after epoch, each ending in its short batch.
  const auto steps_for_samples = [&](double wanted) {
    const double epochs = std::floor(wanted / samples);
    const double rest = wanted - epochs * samples;
    return epochs * per_epoch + std::ceil(rest / job.batch_size);
  };
  double steps = job.amount.value;
  if (job.amount.unit == Amount::Unit::epochs) {
    const double whole = std::floor(job.amount.value);
    steps = whole * per_epoch + std::ceil((job.amount.value - whole) * samples / job.batch_size);
  } else if (job.amount.unit == Amount::Unit::tokens) {
    steps = steps_for_samples(std::ceil(job.amount.value / std::max(1, data.sequence_length)));
  }
  return static_cast<std::int64_t>(std::clamp(steps, 1.0, kMostSteps));
}

}  // namespace saturn::batch
