// Saturn's side of tools/bench_data: reads a count a line from stdin, does that much, prints the seconds it
// took.
//
// usage: bench_data images FOLDER SIZE BATCH THREADS    batches of training images
//        bench_data tokens FILE TOKENIZER THREADS       the text, as tokens
//        bench_data safetensors FILE THREADS            all tensors, in memory of their own

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/image_index.h"
#include "saturn/data/loader.h"
#include "saturn/formats/safetensors.h"
#include "saturn/text/tokenizer.h"
#include "train/read_stored.h"

namespace {

using namespace saturn;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "bench_data: error: %s\n", why.c_str());
  std::exit(2);
}

template <class T>
T must(Result<T> result) {
  if (!result.ok()) fail(to_text(result.faults()));
  return *std::move(result);
}

void serve(const std::function<void()>& once) {
  std::printf("ready\n");
  std::fflush(stdout);
  for (int count = 0; std::scanf("%d", &count) == 1;) {
    const double start_s = now_s();
    for (int i = 0; i < count; ++i) once();
    std::printf("%.6f\n", now_s() - start_s);
    std::fflush(stdout);
  }
}

void serve_images(char** words) {
  at::set_num_threads(1);
  batch::DataSource source;
  source.kind = batch::DataKind::images;
  source.files = {words[0]};
  source.validation_share = 0.0;
  source.images.size = std::atoi(words[1]);
  source.images.max_corrupt = 0;
  const std::int64_t batch_size = std::atoi(words[2]);
  must(batch::index_images(source));
  const auto dataset = must(data::open_dataset(source, source.vocabulary_size, std::atoi(words[3])));
  data::Loader loader(
      *dataset, data::SampleOrder(1, dataset->num_samples(data::Part::training), batch_size),
      [](std::int64_t num_rows) {
        return std::vector<data::RowRange>{{0, num_rows}};
      },
      /*first_step=*/0);
  serve([&] { must(loader.next()); });
}

void serve_tokens(char** words) {
  const std::string content = must(read_whole(words[0]));
  const auto tokenizer = must(text::open_tokenizer(words[1]));
  const int num_threads = std::atoi(words[2]);
  serve([&] {
    text::Tokens tokens;
    const auto encoded =
        tokenizer->encode(content, num_threads, [&](std::span<const text::Token> some, std::uint64_t) {
          tokens.insert(tokens.end(), some.begin(), some.end());
          return Result<void>();
        });
    if (!encoded.ok()) fail(to_text(encoded.faults()));
  });
}

void serve_safetensors(char** words) {
  at::set_num_threads(std::atoi(words[1]));
  serve([&] {
    const formats::Safetensors files = must(formats::Safetensors::open(words[0]));
    std::vector<at::Tensor> all;  // at once, as a model is
    for (const formats::StoredTensor& stored : files.tensors()) {
      all.push_back(at::empty(stored.shape, at::kFloat));
      if (const auto read = train::read_stored(files, stored, 0, all.back().view({-1})); !read.ok())
        fail(to_text(read.faults()));
    }
  });
}

}  // namespace

int main(int num_words, char** words) {
  const std::string what = num_words > 1 ? words[1] : "";
  if (what == "images" && num_words == 6) {
    serve_images(words + 2);
  } else if (what == "tokens" && num_words == 5) {
    serve_tokens(words + 2);
  } else if (what == "safetensors" && num_words == 4) {
    serve_safetensors(words + 2);
  } else {
    fail(
        "usage: bench_data images FOLDER SIZE BATCH THREADS | tokens FILE TOKENIZER THREADS | safetensors "
        "FILE THREADS");
  }
  return 0;
}
