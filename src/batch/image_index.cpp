// Folders and shards to lists of labelled images.

#include "saturn/batch/image_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "batch/file_facts.h"
#include "saturn/base/check.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/formats/tar.h"

namespace saturn::batch {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepest = 16;  // folders within a class: a link may lead back
constexpr std::uint64_t kLongestLabel = 256;
constexpr std::uint64_t kSmallData = std::uint64_t{256} << 20;
constexpr std::int32_t kMostClasses = 1 << 24;

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool is_image_name(const std::string& name) {
  const std::string extension = lower(fs::path(name).extension().string());
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

Diagnostic input(const std::string& where, const std::string& what, const std::string& expected,
                 const std::string& fix = "correct it, and make the shard again") {
  return {.where = where, .what = what, .expected = expected, .fix = fix};
}

// ---- folders

Result<void> list_images(const std::string& root, const std::string& folder, int depth, std::int32_t label,
                         std::uint32_t source, std::vector<ImageSample>& into) {
  if (depth > kDeepest)
    return input(join_path(root, folder), "folders lie deeper than " + std::to_string(kDeepest) + " here",
                 "a class's images in a few folders", "look for a link that leads back");
  std::error_code error;
  for (fs::directory_iterator it(join_path(root, folder), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) continue;
    const std::string path = folder + "/" + name;
    struct stat status {};
    if (::stat(it->path().c_str(), &status) != 0) return system_fault(it->path().string(), "look at", errno);
    if (S_ISDIR(status.st_mode)) {
      SATURN_TRY_VOID(list_images(root, path, depth + 1, label, source, into));
    } else if (S_ISREG(status.st_mode) && is_image_name(name)) {
      into.push_back({source, label, path, 0, static_cast<std::uint64_t>(status.st_size)});
    }
  }
  if (error) return system_fault(join_path(root, folder), "list", error.value());
  return {};
}

Result<std::vector<std::string>> class_folders(const std::string& root) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (!name.starts_with('.') && fs::is_directory(it->path(), ignored)) names.push_back(name);
  }
  if (error) return system_fault(root, "list", error.value());
  std::sort(names.begin(), names.end());
  if (names.empty())
    return input(root, "there is no folder in " + in_quotes(root), "one folder of images for each class",
                 "name the folder that holds the classes' folders");
  return names;
}

// All images of one root. Every class has some where `complete`; a validation set may lack one.
Result<void> add_folder(const std::string& root, const std::vector<std::string>& classes,
                        std::uint32_t source, bool complete, std::vector<ImageSample>& into) {
  SATURN_TRY(const std::vector<std::string> folders, class_folders(root));
  Diagnostics faults;
  std::vector<std::string> empty, unknown;
  for (const std::string& name : folders)
    if (std::find(classes.begin(), classes.end(), name) == classes.end()) unknown.push_back(name);
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const std::string& name = classes[label];
    const std::size_t before = into.size();
    if (std::binary_search(folders.begin(), folders.end(), name))
      SATURN_TRY_VOID(list_images(root, name, 0, static_cast<std::int32_t>(label), source, into));
    std::sort(into.begin() + static_cast<std::ptrdiff_t>(before), into.end(),
              [](const ImageSample& a, const ImageSample& b) { return a.name < b.name; });
    if (into.size() == before) empty.push_back(name);
  }
  const auto shortened = [](std::vector<std::string> names) {
    const std::size_t count = names.size();
    if (count > 10) names.resize(10);
    return listed(names) + (count > 10 ? " and " + std::to_string(count - 10) + " more" : "");
  };
  if (complete && !empty.empty())
    faults.push_back(input(root, "these classes have no image: " + shortened(empty),
                           "at least one .jpg, .jpeg or .png in the folder of each class",
                           "remove the empty folders, or put images there"));
  if (!unknown.empty())
    faults.push_back(input(root, "these folders are no class: " + shortened(unknown),
                           "one of the " + std::to_string(classes.size()) + " classes of the training data",
                           "name the folders as in the training data, or list them in `labels`"));
  if (!faults.empty()) return faults;
  return {};
}

// ---- shards

// A file that is read at any place.
class Shard {
 public:
  static Result<Shard> open(const std::string& path) {
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid()) return system_fault(path, "open", errno);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return system_fault(path, "look at", errno);
    if (!S_ISREG(status.st_mode))
      return input(path, "this is not a regular file", "a tar archive", "name a folder or a tar archive");
    return Shard(path, std::move(file), static_cast<std::uint64_t>(status.st_size));
  }

  std::uint64_t size() const { return size_; }

  bool read(std::uint64_t offset, char* into, std::size_t count) const {
    return read_all_at(file_.get(), offset, into, count, path_).ok();
  }

 private:
  Shard(std::string path, FileDescriptor file, std::uint64_t size)
      : path_(std::move(path)), file_(std::move(file)), size_(size) {}
  std::string path_;
  FileDescriptor file_;
  std::uint64_t size_;
};

// The label that a .cls member holds: a number, or the name of a class that is known.
std::optional<std::int32_t> label_of(std::string text, const std::map<std::string, std::int32_t>& labels) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\r')) text.pop_back();
  if (const auto it = labels.find(text); it != labels.end()) return it->second;
  std::int32_t label = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  if (error != std::errc() || end != text.data() + text.size() || label < 0 || label >= kMostClasses)
    return std::nullopt;
  return label;
}

// Members of one sample share their name up to the first dot of its last part, and lie side by side.
class ShardReader {
 public:
  ShardReader(const std::string& path, std::uint32_t source,
              const std::map<std::string, std::int32_t>& labels, std::vector<ImageSample>& into)
      : path_(path), source_(source), labels_(labels), into_(into) {}

  Result<void> read() {
    SATURN_TRY(const Shard shard, Shard::open(path_));
    const formats::ReadBytes bytes = [&](std::uint64_t offset, char* to, std::size_t count) {
      return shard.read(offset, to, count);
    };
    SATURN_TRY_VOID(formats::for_each_tar_member(
        shard.size(), bytes, path_, [&](const formats::TarMember& member) { return add(member, shard); }));
    return finish();
  }

 private:
  Result<void> add(const formats::TarMember& member, const Shard& shard) {
    const std::size_t slash = member.name.rfind('/');
    const std::size_t dot = member.name.find('.', slash == std::string::npos ? 0 : slash + 1);
    const std::string key = member.name.substr(0, dot);
    const std::string extension = dot == std::string::npos ? "" : lower(member.name.substr(dot));
    if (key != key_) SATURN_TRY_VOID(finish());
    key_ = key;
    if (is_image_name(member.name)) {
      if (image_)
        return input(path_, "sample " + in_quotes(key) + " has two images", "one image and one .cls");
      image_ = member;
    } else if (extension == ".cls") {
      if (label_)
        return input(path_, "sample " + in_quotes(key) + " has two labels", "one image and one .cls");
      std::string text(std::min(member.size, kLongestLabel), '\0');
      if (member.size > kLongestLabel || !shard.read(member.offset, text.data(), text.size()))
        return input(path_, "member " + in_quotes(member.name) + " is no label", "a number from 0 on");
      label_ = label_of(text, labels_);
      if (!label_)
        return input(path_, "member " + in_quotes(member.name) + " holds " + in_quotes(text),
                     "a number from 0 on, or the name of a class in `labels`");
    }
    return {};
  }

  Result<void> finish() {
    if (image_.has_value() != label_.has_value())
      return input(path_, "sample " + in_quotes(key_) + (image_ ? " has no label" : " has no image"),
                   "one image (.jpg, .png) and one .cls under one name");
    if (image_) into_.push_back({source_, *label_, image_->name, image_->offset, image_->size});
    image_.reset();
    label_.reset();
    return {};
  }

  const std::string& path_;
  std::uint32_t source_;
  const std::map<std::string, std::int32_t>& labels_;
  std::vector<ImageSample>& into_;
  std::string key_;
  std::optional<formats::TarMember> image_;
  std::optional<std::int32_t> label_;
};

// ---- both

// Every class gives its share to validation, spread evenly over its samples.
void hold_out(double share, std::vector<ImageSample>& training, std::vector<ImageSample>& validation) {
  std::map<std::int32_t, std::int64_t> seen;
  std::vector<ImageSample> kept;
  for (ImageSample& sample : training) {
    const auto index = static_cast<double>(seen[sample.label]++);
    const bool held_out = std::floor((index + 1) * share) > std::floor(index * share);
    (held_out ? validation : kept).push_back(std::move(sample));
  }
  training = std::move(kept);
}

// Label faults of shards, and the names that the shards leave open.
Result<void> settle_labels(DataSource& data, const ImageIndex& index) {
  std::vector<std::string>& classes = data.images.classes;
  std::int32_t most = -1;
  for (const auto* part : {&index.training, &index.validation})
    for (const ImageSample& sample : *part) most = std::max(most, sample.label);
  if (classes.empty())
    for (std::int32_t label = 0; label <= most; ++label) classes.push_back(std::to_string(label));
  const auto num_classes = static_cast<std::int32_t>(classes.size());
  for (const auto* part : {&index.training, &index.validation})
    for (const ImageSample& sample : *part)
      if (sample.label >= num_classes)
        return input(index.sources[sample.source],
                     "sample " + in_quotes(sample.name) + " has label " + std::to_string(sample.label),
                     "labels below the number of classes, " + std::to_string(num_classes));
  data.vocabulary_size = num_classes;
  return {};
}

}  // namespace

Result<ImageIndex> index_images(DataSource& data) {
  ImageIndex index;
  Diagnostics faults;
  std::error_code error;
  const std::vector<std::string>& first = data.files.empty() ? data.validation_files : data.files;
  SATURN_CHECK(!first.empty(), "data has a source");
  index.in_shards = !fs::is_directory(first.front(), error);
  std::vector<std::string>& classes = data.images.classes;
  if (!index.in_shards && classes.empty()) {
    SATURN_TRY(classes, class_folders(first.front()));
  }
  std::map<std::string, std::int32_t> labels;
  for (std::size_t i = 0; i < classes.size(); ++i) labels[classes[i]] = static_cast<std::int32_t>(i);

  const auto add = [&](const std::vector<std::string>& sources, bool complete,
                       std::vector<ImageSample>& into) {
    for (const std::string& path : sources) {
      const auto source = static_cast<std::uint32_t>(index.sources.size());
      index.sources.push_back(path);
      const Result<void> added = fs::is_directory(path, error)
                                     ? add_folder(path, classes, source, complete, into)
                                     : ShardReader(path, source, labels, into).read();
      if (added.ok()) continue;
      for (const Diagnostic& fault : added.faults()) faults.push_back(fault);
    }
  };
  add(data.files, /*complete=*/true, index.training);
  add(data.validation_files, /*complete=*/false, index.validation);
  if (!faults.empty()) return faults;
  SATURN_TRY_VOID(settle_labels(data, index));
  if (data.validation_files.empty() && data.validation_share > 0)
    hold_out(data.validation_share, index.training, index.validation);
  return index;
}

Result<ImageIndex> index_images(const DataSource& data) {
  DataSource copy = data;
  SATURN_TRY(ImageIndex index, index_images(copy));
  return index;
}

Result<std::string> digest_of_images(const DataSource& data) {
  SATURN_TRY(const ImageIndex index, index_images(data));
  Json what = Json::array();
  if (index.in_shards) {
    for (const std::string& path : index.sources) {
      SATURN_TRY(std::string digest, remembered_digest(path));
      what.push_back(std::move(digest));
    }
    return digest_of(to_line(what));
  }
  std::uint64_t bytes = 0;
  for (const auto* part : {&index.training, &index.validation})
    for (const ImageSample& sample : *part) bytes += sample.size;
  for (const auto* part : {&index.training, &index.validation}) {
    std::string lines;
    for (const ImageSample& sample : *part) {
      const std::string path = join_path(index.sources[sample.source], sample.name);
      lines += sample.name + " " + std::to_string(sample.size) + " ";
      if (bytes <= kSmallData) {
        SATURN_TRY(const std::string digest, digest_of_file(path));
        lines += digest;
      } else {
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0) return system_fault(path, "look at", errno);
        lines += std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec);
      }
      lines += "\n";
    }
    what.push_back(digest_of(lines));
  }
  return digest_of(to_line(what));
}

}  // namespace saturn::batch
