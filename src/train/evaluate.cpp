// The loss of a stored model over a file of tokens.
//
// Shapes: S sequences, T tokens of a sequence, V vocabulary.

#include "saturn/train/evaluate.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "evaluate_images.h"
#include "failure.h"
#include "saturn/base/files.h"
#include "saturn/batch/model_spec.h"
#include "saturn/formats/safetensors.h"
#include "saturn/formats/token_shard.h"
#include "saturn/text/tokenizer.h"
#include "saturn/train/model.h"

namespace saturn::train {
namespace {

constexpr std::int64_t kTokensAtOnce = 8192;
constexpr std::int64_t kMostSequencesOfLogits = 8;
constexpr std::int64_t kBytes = 256;

/// A file of tokens, read from anywhere in it.
struct Tokens {
  std::string path;
  std::int64_t count = 0;
  std::function<Result<void>(std::int64_t first, std::span<std::int64_t> into)> read;
};

Result<Tokens> open_shard(const std::string& path) {
  SATURN_TRY(formats::TokenShard opened, formats::TokenShard::open(path));
  const auto shard = std::make_shared<const formats::TokenShard>(std::move(opened));
  return Tokens{path, shard->size(),
                [shard](std::int64_t first, std::span<std::int64_t> into) -> Result<void> {
                  shard->copy(first, into);
                  return {};
                }};
}

Result<Tokens> open_text(const std::string& path) {
  const auto fd = std::make_shared<FileDescriptor>(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd->valid() || ::fstat(fd->get(), &status) != 0) return system_fault(path, "read", errno);
  if (!S_ISREG(status.st_mode)) {
    return Diagnostic{.where = path, .what = "this is not a regular file", .expected = "a text file"};
  }
  const auto read = [fd, path](std::int64_t first, std::span<std::int64_t> into) -> Result<void> {
    std::vector<unsigned char> bytes(into.size());
    SATURN_TRY(const std::size_t done, read_at(fd->get(), static_cast<std::uint64_t>(first),
                                               reinterpret_cast<char*>(bytes.data()), bytes.size(), path));
    if (done < bytes.size()) {
      return Diagnostic{.where = path,
                        .what = "the file became shorter while it was read",
                        .expected = "a file that stays as it is"};
    }
    std::ranges::copy(bytes, into.begin());
    return {};
  };
  return Tokens{path, status.st_size, read};
}

/// Text through the tokenizer that lies beside the model; nothing where none does.
Result<std::optional<Tokens>> open_tokenized(const std::string& path, const batch::ModelSpec& spec) {
  if (!text::tokenizer_files(spec.directory).ok()) return std::optional<Tokens>();
  SATURN_TRY(const std::unique_ptr<text::Tokenizer> tokenizer, text::open_tokenizer(spec.directory));
  SATURN_TRY(const std::string content, read_whole(path));
  SATURN_TRY(text::Tokens encoded, tokenizer->encode(content));
  const auto all = std::make_shared<const text::Tokens>(std::move(encoded));
  return std::optional(Tokens{path, static_cast<std::int64_t>(all->size()),
                              [all](std::int64_t first, std::span<std::int64_t> into) -> Result<void> {
                                std::copy_n(all->begin() + first, into.size(), into.begin());
                                return {};
                              }});
}

Result<void> check_bytes_fit(const batch::ModelSpec& spec) {
  if (spec.vocabulary < kBytes) {
    return Diagnostic{
        .where = spec.directory,
        .what = "text is read as bytes, and this model knows " + std::to_string(spec.vocabulary) + " tokens",
        .expected = "a model with at least 256 tokens"};
  }
  return {};
}

Result<Tokens> open_tokens(const worker::EvaluateRequest& request, const batch::ModelSpec& spec) {
  if (!request.tokens.empty()) return open_shard(request.tokens);
  SATURN_TRY(std::optional<Tokens> tokenized, open_tokenized(request.text, spec));
  if (tokenized) return *std::move(tokenized);
  SATURN_TRY(Tokens bytes, open_text(request.text));
  SATURN_TRY_VOID(check_bytes_fit(spec));
  return bytes;
}

/// `count` sequences of `length` tokens from `first` on.
Result<at::Tensor> read_sequences(const Tokens& tokens, std::int64_t first, std::int64_t count,
                                  std::int64_t length, std::int64_t vocabulary) {
  at::Tensor sequences = at::empty({count, length}, at::kLong);
  const std::span<std::int64_t> into(sequences.mutable_data_ptr<std::int64_t>(),
                                     static_cast<std::size_t>(count * length));
  SATURN_TRY_VOID(tokens.read(first, into));
  for (std::size_t i = 0; i < into.size(); ++i) {
    if (into[i] < vocabulary) continue;
    return Diagnostic{.where = tokens.path,
                      .what = "token " + std::to_string(first + static_cast<std::int64_t>(i)) + " is " +
                              std::to_string(into[i]),
                      .expected = "tokens below the model's vocabulary of " + std::to_string(vocabulary)};
  }
  return sequences;
}

struct Sum {
  double loss = 0.0;
  std::int64_t count = 0;
};

/// Adds the losses of sequences of `length` tokens. The token after each is its last target; where `ends`
/// there is none, and the last token is only a target.
Result<void> add_losses(Model& model, const Tokens& tokens, std::int64_t first, std::int64_t count,
                        std::int64_t length, bool ends, std::int64_t vocabulary, Sum& sum) {
  const StepContext context{.training = false};
  const std::int64_t num_targets = ends ? length - 1 : length;
  if (num_targets == 0) return {};
  SATURN_TRY(const at::Tensor inputs, read_sequences(tokens, first, count, length, vocabulary));
  at::Tensor targets;
  if (ends) {
    targets = inputs.narrow(1, 1, num_targets).contiguous();
  } else {
    SATURN_TRY(targets, read_sequences(tokens, first + 1, count, length, vocabulary));
  }
  sum.loss += loss(model, inputs.narrow(1, 0, num_targets).contiguous(), targets, context).item<double>();
  sum.count += count * num_targets;
  return {};
}

Result<Sum> total_loss(Model& model, const Tokens& tokens, std::int64_t length, std::int64_t vocabulary) {
  Sum sum;
  const std::int64_t whole = (tokens.count - 1) / length;  // sequences that have a token after them
  const std::int64_t at_once = std::max<std::int64_t>(1, kTokensAtOnce / length);
  for (std::int64_t i = 0; i < whole; i += at_once) {
    const std::int64_t count = std::min(at_once, whole - i);
    SATURN_TRY_VOID(add_losses(model, tokens, i * length, count, length, /*ends=*/false, vocabulary, sum));
  }
  const std::int64_t rest = tokens.count - whole * length;
  SATURN_TRY_VOID(add_losses(model, tokens, whole * length, 1, rest, /*ends=*/true, vocabulary, sum));
  return sum;
}

Result<void> write_first_logits(Model& model, const Tokens& tokens, std::int64_t length,
                                std::int64_t vocabulary, const std::string& path) {
  const std::int64_t count = std::min(kMostSequencesOfLogits, tokens.count / length);
  SATURN_TRY(const at::Tensor inputs, read_sequences(tokens, 0, count, length, vocabulary));
  return write_logits(outputs(model, inputs, StepContext{.training = false}), path);
}

Result<worker::Evaluation> evaluate_whole(const worker::EvaluateRequest& request) {
  const at::NoGradGuard no_grad;
  if (!std::filesystem::is_directory(request.model_directory)) {
    return Diagnostic{.where = request.model_directory,
                      .what = "this is not a directory",
                      .expected = "a model directory with config.json and safetensors weights"};
  }
  // Absolute, so that no preset's name is taken for it.
  const std::string directory =
      std::filesystem::absolute(request.model_directory).lexically_normal().string();
  SATURN_TRY(const batch::ModelSpec spec, batch::find_model(directory, ".", {}));
  if (spec.reads_images != !request.images.empty())
    return Diagnostic{.where = spec.directory,
                      .what = std::string("this model reads ") + (spec.reads_images ? "images" : "tokens"),
                      .expected = spec.reads_images ? "--images PATH" : "--text FILE or --tokens FILE"};
  if (spec.reads_images) return evaluate_images(request, spec);
  SATURN_TRY(const Tokens tokens, open_tokens(request, spec));
  if (tokens.count < 2) {
    return Diagnostic{.where = tokens.path,
                      .what = "there are " + std::to_string(tokens.count) + " tokens",
                      .expected = "at least 2: one to read and one to predict"};
  }
  if (request.sequence_length > spec.longest_sequence) {
    return Diagnostic{
        .where = spec.directory,
        .what = "sequences of " + std::to_string(request.sequence_length) + " tokens are too long",
        .expected = "at most the model's " + std::to_string(spec.longest_sequence) + " positions",
        .fix = "pass --sequence-length " + std::to_string(spec.longest_sequence)};
  }
  const std::int64_t asked = request.sequence_length != 0 ? request.sequence_length : spec.longest_sequence;
  const std::int64_t length = std::min(asked, tokens.count);
  SATURN_TRY(const std::unique_ptr<Model> model, open_stored_model(spec));
  SATURN_TRY(const Sum sum, total_loss(*model, tokens, length, spec.vocabulary));
  if (!request.logits.empty()) {
    SATURN_TRY_VOID(write_first_logits(*model, tokens, length, spec.vocabulary, request.logits));
  }
  SATURN_TRY(const double mean, mean_loss(sum.loss, sum.count, spec));
  return worker::Evaluation{
      .loss = mean, .perplexity = std::exp(mean), .count = sum.count, .sequence_length = length};
}

}  // namespace

Result<std::unique_ptr<Model>> open_stored_model(const batch::ModelSpec& spec) {
  SATURN_TRY(std::unique_ptr<Model> model, make_model(spec, {}));
  SATURN_TRY(const std::unique_ptr<WeightSource> weights, open_weights(*model, spec.directory));
  std::vector<ParameterPtr> all = model->parameters();
  for (const ParameterPtr& buffer : model->buffers()) all.push_back(buffer);
  for (const ParameterPtr& parameter : all) {
    parameter->value = at::empty(parameter->shape, at::kFloat);
    SATURN_TRY_VOID(weights->read(*parameter, 0, parameter->value.view({-1})));
  }
  return model;
}

Result<void> write_logits(const at::Tensor& logits, const std::string& path) {
  const at::Tensor whole = logits.contiguous();
  const std::string_view bytes(static_cast<const char*>(whole.const_data_ptr()), whole.nbytes());
  return formats::write_safetensors(
      path, {{.name = "logits", .dtype = formats::Dtype::f32, .shape = whole.sizes().vec(), .bytes = {}}},
      [&](std::size_t) { return bytes; });
}

Result<double> mean_loss(double sum, std::int64_t count, const batch::ModelSpec& spec) {
  const double mean = sum / static_cast<double>(count);
  if (std::isfinite(mean)) return mean;
  return Diagnostic{.where = spec.directory,
                    .what = "the loss of this model is not a number",
                    .expected = "weights that are finite"};
}

Result<worker::Evaluation> evaluate(const worker::EvaluateRequest& request) {
  try {
    return evaluate_whole(request);
  } catch (const std::exception&) {
    return Diagnostic{.kind = Kind::machine,
                      .what = classify(std::current_exception()).message,
                      .expected = "a machine that can run this model"};
  }
}

}  // namespace saturn::train
