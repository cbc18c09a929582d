// Reading ahead: one thread fills a short queue.

#include "saturn/data/loader.h"

#include <algorithm>

namespace saturn::data {

std::vector<RowRange> split_rows(RowRange rows, std::int64_t parts) {
  std::vector<RowRange> ranges;
  const std::int64_t count = std::min(parts, rows.count);
  std::int64_t first = rows.first;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t size = rows.count / count + (i < rows.count % count ? 1 : 0);
    ranges.push_back({first, size, rows.counts});
    first += size;
  }
  return ranges;
}

namespace {

template <class SampleOf>
Result<MicroBatches> read_rows(const Dataset& dataset, Part part, const Draw& draw, const ShareOf& share,
                               std::int64_t num_rows, const SampleOf& sample_of) {
  MicroBatches batches;
  batches.num_rows = num_rows;
  batches.num_targets = num_rows * dataset.targets_per_sample();
  for (const RowRange& rows : share(num_rows)) {
    std::vector<std::int64_t> samples;
    for (std::int64_t row = rows.first; row < rows.first + rows.count; ++row)
      samples.push_back(sample_of(row));
    SATURN_TRY(Samples read, dataset.read(part, samples, draw));
    batches.parts.push_back({rows, std::move(read.inputs), std::move(read.targets)});
  }
  return batches;
}

}  // namespace

Result<MicroBatches> read_step(const Dataset& dataset, const SampleOrder& order, const ShareOf& share,
                               std::int64_t step) {
  SATURN_TRY(MicroBatches batches,
             read_rows(dataset, Part::training, {order.seed(), order.epoch_of(step)}, share,
                       order.rows_of(step), [&](std::int64_t row) { return order.sample(step, row); }));
  batches.step = step;
  return batches;
}

std::int64_t num_validation_batches(const Dataset& dataset, std::int64_t batch_size) {
  return (dataset.num_samples(Part::validation) + batch_size - 1) / batch_size;
}

Result<MicroBatches> read_validation(const Dataset& dataset, std::int64_t batch_size, const ShareOf& share,
                                     std::int64_t batch) {
  const std::int64_t first = batch * batch_size;
  const std::int64_t num_rows = std::min(batch_size, dataset.num_samples(Part::validation) - first);
  return read_rows(dataset, Part::validation, {}, share, num_rows,
                   [&](std::int64_t row) { return first + row; });
}

Loader::Loader(const Dataset& dataset, SampleOrder order, ShareOf share, std::int64_t first_step, int depth)
    : dataset_(dataset),
      order_(order),
      share_(std::move(share)),
      next_step_(first_step),
      depth_(static_cast<std::size_t>(depth)),
      thread_([this] { run(); }) {}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<MicroBatches> Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty(); });
  Slot slot = std::move(ready_.front());
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  if (slot.thrown) std::rethrow_exception(slot.thrown);
  return std::move(slot.batches);
}

void Loader::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || ready_.size() < depth_; });
      if (stopping_) return;
    }
    Slot slot{MicroBatches{}, nullptr};
    try {
      slot.batches = read_step(dataset_, order_, share_, next_step_);
    } catch (...) {
      slot.thrown = std::current_exception();
    }
    ++next_step_;
    const bool good = slot.batches.ok() && !slot.thrown;
    {
      std::lock_guard lock(mutex_);
      ready_.push_back(std::move(slot));
    }
    changed_.notify_all();
    if (!good) return;
  }
}

}  // namespace saturn::data
