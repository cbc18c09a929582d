// What a checkpoint costs, against the machine's own speed in the same run: the pause against a copy of the
// state in memory, saving against `dd conv=fsync`, loading against a cached read by `dd`. Pairs alternate;
// each ratio is the median of all pairs with the interval of order statistics that holds it with at least 95
// %.
//
// usage: bench_checkpoint [FOLDER] [MIB] [PAIRS] [THREADS]

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/statistics.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/train/saver.h"
#include "tests/train/boxes.h"

namespace {

namespace fs = std::filesystem;
using saturn::testing::Boxes;
using saturn::train::StateTensor;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Work>
double seconds_of(const Work& work) {
  const double start_s = now_s();
  work();
  return now_s() - start_s;
}

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "bench_checkpoint: error: %s\n", what);
  std::exit(2);
}

void run_dd(const std::string& words) {
  must(std::system(("dd status=none bs=4M " + words).c_str()) == 0, "dd failed");
}

/// As a transformer's: large matrices with a vector beside each, in three roles.
std::vector<StateTensor> state_of(std::int64_t mib) {
  std::vector<StateTensor> state;
  constexpr std::int64_t kWidth = 1536;
  const std::int64_t bytes_each = 3 * 4 * (kWidth * kWidth + kWidth);
  const std::int64_t count = std::max<std::int64_t>(1, mib * (1 << 20) / bytes_each);
  for (std::int64_t i = 0; i < count; ++i) {
    for (const char* role : {"weight", "exp_avg", "exp_avg_sq"}) {
      const std::string name = "layer." + std::to_string(i);
      state.push_back(
          {name, role, {kWidth, kWidth}, {0, 0}, at::full({kWidth, kWidth}, 0.1 + static_cast<double>(i))});
      state.push_back({name + ".bias", role, {kWidth}, {0}, at::ones({kWidth})});
    }
  }
  return state;
}

/// All bytes into `to`, on all threads.
void copy_all(const std::vector<StateTensor>& state, char* to) {
  struct Chunk {
    char* to;
    const char* from;
    std::size_t bytes;
  };
  constexpr std::size_t kChunk = std::size_t{4} << 20;
  std::vector<Chunk> chunks;
  for (const StateTensor& tensor : state) {
    const auto* from = static_cast<const char*>(tensor.piece.const_data_ptr());
    for (std::size_t at = 0; at < tensor.piece.nbytes(); at += kChunk)
      chunks.push_back({to + at, from + at, std::min(kChunk, tensor.piece.nbytes() - at)});
    to += tensor.piece.nbytes();
  }
  at::parallel_for(0, static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
      std::memcpy(chunk.to, chunk.from, chunk.bytes);
    }
  });
}

struct Pairs {
  std::vector<double> ours_s, theirs_s;

  /// Prints ours, theirs and their ratio; of speeds (theirs / ours) where `speed`.
  void print(const char* what, const char* against, double bytes, bool speed, const char* aim) const {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < ours_s.size(); ++i)
      ratios.push_back(speed ? theirs_s[i] / ours_s[i] : ours_s[i] / theirs_s[i]);
    std::sort(ratios.begin(), ratios.end());
    // Binomial(n, 1/2): leave out k at each end while the rest covers 95 %.
    const auto n = static_cast<int>(ratios.size());
    double tail = 0.0, term = std::pow(0.5, n);
    int left_out = 0;
    for (int k = 0; k < n / 2; ++k) {
      tail += term;
      if (2.0 * tail > 0.05) break;
      left_out = k + 1;
      term *= static_cast<double>(n - k) / (k + 1);
    }
    left_out = std::max(0, left_out - 1);
    std::printf("%-6s %8.1f ms %7.0f MB/s   %-22s %8.1f ms %7.0f MB/s   ratio %.2f [%.2f, %.2f]  aim %s\n",
                what, 1e3 * median(ours_s), bytes / 1e6 / median(ours_s), against, 1e3 * median(theirs_s),
                bytes / 1e6 / median(theirs_s), median(ratios), ratios[static_cast<std::size_t>(left_out)],
                ratios[static_cast<std::size_t>(n - 1 - left_out)], aim);
  }
};

}  // namespace

int main(int num_words, char** words) {
  const auto number = [&](int at, long fallback) { return num_words > at ? std::atol(words[at]) : fallback; };
  const std::string folder = std::string(num_words > 1 ? words[1] : ".") + "/bench-checkpoint";
  const long num_pairs = std::max(1L, number(3, 7));
  at::set_num_threads(static_cast<int>(std::max(1L, number(4, 2))));
  fs::remove_all(folder);
  must(saturn::make_directories(folder).ok(), "the folder cannot be made");

  const std::vector<StateTensor> state = state_of(number(2, 256));
  std::size_t bytes = 0;
  for (const StateTensor& tensor : state) bytes += tensor.piece.nbytes();
  const auto alone = *saturn::train::Communicator::connect({});
  Boxes technique(state, *alone);
  saturn::train::Saver saver(technique, *alone);
  const saturn::train::SaveRequest request{
      .directory = folder + "/checkpoints/step-000001", .progress = {.step = 1, .validation = {}}, .keep = 1};
  const std::string shard = request.directory + "/rank-00000.bin";
  const std::string raw = folder + "/raw";
  std::vector<char> copy(bytes);

  // Once for the copy's pages, the page cache and the clock.
  must(saver.begin(request).ok(), "the first save failed");
  saver.wait();
  copy_all(state, copy.data());
  const std::string blocks = std::to_string((bytes + (1 << 22) - 1) >> 22);

  Pairs pause, save, load;
  for (long pair = 0; pair < num_pairs; ++pair) {
    const bool ours_first = pair % 2 == 0;
    const auto both = [&](Pairs& pairs, const auto& ours, const auto& theirs) {
      if (!ours_first) pairs.theirs_s.push_back(seconds_of(theirs));
      pairs.ours_s.push_back(seconds_of(ours));
      if (ours_first) pairs.theirs_s.push_back(seconds_of(theirs));
    };
    const auto copy_in_memory = [&] { copy_all(state, copy.data()); };
    if (!ours_first) pause.theirs_s.push_back(seconds_of(copy_in_memory));
    pause.ours_s.push_back(seconds_of([&] { must(saver.begin(request).ok(), "a save failed"); }));
    saver.wait();
    if (ours_first) pause.theirs_s.push_back(seconds_of(copy_in_memory));
    fs::remove_all(request.directory);
    fs::remove(raw);
    both(
        save, [&] { must(saver.save(request).ok(), "a save failed"); },
        [&] { run_dd("if=/dev/zero of=" + raw + " count=" + blocks + " conv=fsync"); });
    run_dd("if=" + shard + " of=/dev/null");
    both(
        load,
        [&] { must(saturn::train::load_checkpoint(request.directory, technique).ok(), "a load failed"); },
        [&] { run_dd("if=" + shard + " of=/dev/null"); });
  }
  for (const auto& report : saver.take_reports())
    must(report.faults.empty(), "a save in the background failed");

  const auto size = static_cast<double>(bytes);
  std::printf("checkpoint of %.0f MB, %d threads, median of %ld pairs\n", size / 1e6, at::get_num_threads(),
              num_pairs);
  pause.print("pause", "copy in memory", size, /*speed=*/false, "<= 1.20");
  save.print("save", "dd conv=fsync", size, /*speed=*/true, ">= 0.80");
  load.print("load", "dd from the cache", size, /*speed=*/true, ">= 0.80");
  fs::remove_all(folder);
  return 0;
}
