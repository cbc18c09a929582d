// The memory formulae, with where their constants come from.

#include "saturn/batch/memory_model.h"

#include <algorithm>
#include <array>

#include "batch/family.h"
#include "saturn/batch/fine_tune.h"

namespace saturn::batch {
namespace {

constexpr std::array kPolicies = {"none", "selective", "full"};

// One piece of logits on its way through the head's loss: train::ops::head_cross_entropy.
constexpr std::int64_t kLogitsPieceBytes = std::int64_t{96} << 20;
constexpr std::int64_t kLogitsPieceRows = 64;

int bytes_of_value(const Job& job) {
  return job.precision == "fp32" ? 4 : 2;
}

std::int64_t feed_forward_of(const ModelSpec& model) {
  const auto written = model.sizes.find("feed_forward");
  const std::int64_t width =
      written != model.sizes.end() && written->is_number_integer() ? written->get<std::int64_t>() : 0;
  return width > 0 ? width : std::int64_t{4} * model.width;
}

}  // namespace

const char* name_of(Checkpointing checkpointing) {
  return kPolicies[static_cast<std::size_t>(checkpointing)];
}

std::optional<Checkpointing> checkpointing_of(const Json& knobs) {
  const auto written = knobs.find("checkpointing");
  if (written == knobs.end()) return Checkpointing::none;
  if (!written->is_string()) return std::nullopt;
  for (std::size_t i = 0; i < kPolicies.size(); ++i) {
    if (written->get<std::string>() == kPolicies[i]) return static_cast<Checkpointing>(i);
  }
  return std::nullopt;
}

StateBytes state_bytes_per_parameter(const Job& job) {
  const Optimizer& optimizer = job.optimizer;
  const int moments = optimizer.kind == "adamw"  ? 2
                      : optimizer.kind == "lion" ? 1
                      : optimizer.momentum > 0   ? 1
                                                 : 0;
  return {.optimizer = 4 * moments, .compute_copy = job.precision == "fp32" ? 0 : 2};
}

ParameterCounts parameter_counts(const ModelSpec& model) {
  ParameterCounts counts{.block = model.num_layer_parameters, .all = model.num_parameters};
  const std::int64_t width = model.width;
  const std::int64_t outside = model.num_parameters - model.num_layers * model.num_layer_parameters;
  counts.head_table = std::int64_t{model.vocabulary} * width;
  const auto tied = model.sizes.find("tied_head");
  const bool is_tied = tied != model.sizes.end() && tied->is_boolean() && tied->get<bool>();
  counts.head = std::min(outside, 2 * width + (is_tied ? 0 : counts.head_table));  // the norm's two vectors
  counts.embedding = outside - counts.head;
  return counts;
}

namespace {

bool trains_all(const Job& job) {
  return !job.lora && job.freeze.empty();
}

/// Parameters of an adapter's two maps.
std::int64_t adapter_elements(const Job& job, const ParameterFact& one) {
  if (!job.lora || one.outputs < 0 || !is_target(job.lora->targets, one.name)) return 0;
  return job.lora->rank * (one.shape[0] + one.shape[1]);
}

/// The sum of `count` over the parameters of each layer, by place.
template <class Count>
ParameterCounts counted(const Job& job, const Count& count) {
  ParameterCounts counts;
  std::vector<std::int64_t> layers(static_cast<std::size_t>(job.model.num_layers) + 2);
  for (const ParameterFact& one : parameters_of(job.model)) {
    const std::int64_t number = count(one);
    layers[static_cast<std::size_t>(one.layer)] += number;
    counts.all += number;
  }
  counts.embedding = layers.front();
  counts.head = layers.back();
  if (layers.size() > 2) counts.block = *std::max_element(layers.begin() + 1, layers.end() - 1);
  return counts;
}

}  // namespace

ParameterCounts held_counts(const Job& job) {
  ParameterCounts counts = parameter_counts(job.model);
  if (!job.lora) return counts;
  const ParameterCounts adapters =
      counted(job, [&](const ParameterFact& one) { return adapter_elements(job, one); });
  counts.embedding += adapters.embedding;
  counts.block += adapters.block;
  counts.head += adapters.head;
  counts.all += adapters.all;
  return counts;
}

ParameterCounts trained_counts(const Job& job) {
  ParameterCounts counts = parameter_counts(job.model);
  if (trains_all(job)) return counts;
  const std::int64_t whole_table = counts.head_table;
  const bool tied = counts.head < whole_table;
  counts = counted(job, [&](const ParameterFact& one) {
    return (is_trained(job, one.name) ? one.num_elements() : 0) + adapter_elements(job, one);
  });
  const int table_layer = tied ? 0 : job.model.num_layers + 1;
  for (const ParameterFact& one : parameters_of(job.model)) {
    if (one.layer != table_layer || one.num_elements() != whole_table) continue;
    if (is_trained(job, one.name)) counts.head_table = whole_table;
    break;  // a table of positions may be as large, and comes behind it
  }
  return counts;
}

std::int64_t ActivationBytes::kept(std::int64_t num_blocks, Checkpointing checkpointing) const {
  const std::int64_t recomputed = checkpointing == Checkpointing::none   ? 0
                                  : checkpointing == Checkpointing::full ? num_blocks
                                                                         : (num_blocks + 1) / 2;
  const std::int64_t again = recomputed > 0 ? block_kept : 0;
  return recomputed * block_input + (num_blocks - recomputed) * block_kept + again;
}

// A block keeps, in values a token: its input and the attention's sum (C each, for the norms' backward), the
// outputs of both norms (C each), queries, keys and values (3 C), the attention's output (C), and the
// perceptron's activation and slope (F each). Attention never forms its matrix, dropout masks are drawn
// again, and the maps' outputs that are only added are not kept. Source: the operators of train/ops.h.
//
// Backward of a block works with the gradients of its output and of one part's input (C each) and of the
// widest hidden layer (F, or 3 C of the attention).
ActivationBytes activation_bytes(const Job& job, const DataSource& data, std::int64_t num_rows) {
  const Family* family = find_family(job.model.family);  // none of a test's own model
  if (family != nullptr && family->kept_values != nullptr) {
    // Blocks differ in size; their mean is what a sum over all of them needs.
    const std::int64_t kept =
        num_rows * family->kept_values(job.model, data.images.size) * bytes_of_value(job);
    const std::int64_t mean = kept / std::max(1, job.model.num_layers);
    return {.block_input = mean / 4,
            .block_kept = mean,
            .block_working = 2 * mean,
            .head = num_rows * (job.model.width + job.model.vocabulary) * bytes_of_value(job)};
  }
  const std::int64_t tokens = num_rows * positions_of_sample(job.model, data);
  const std::int64_t width = job.model.width;
  const std::int64_t inner = feed_forward_of(job.model);
  const std::int64_t value = bytes_of_value(job);
  const std::int64_t row_bytes = std::max<std::int64_t>(1, job.model.vocabulary * value);
  // A classifier tells one class of a sample.
  const std::int64_t num_told = job.model.reads_images ? num_rows : tokens;
  const std::int64_t piece_rows =
      std::min(num_told, std::max<std::int64_t>(kLogitsPieceRows, kLogitsPieceBytes / row_bytes));
  return {.block_input = tokens * width * value,
          .block_kept = tokens * (8 * width + 2 * inner) * value,
          .block_working = tokens * (2 * width + std::max(inner, 3 * width)) * value,
          // The norm's input and output, the gradient of the latter, and a piece of logits.
          .head = 3 * tokens * width * value + piece_rows * row_bytes};
}

// Between split regions a rank has its share of the sequence: a block's input, the attention's sum, and the
// gradients of both. What a region begins with is gathered, so both norms' outputs are kept whole; inside,
// the rest is a slice. Where a region's gradient is summed, the ranks' parts come and go: three whole
// activations at once.
ActivationBytes split_activation_bytes(const Job& job, const DataSource& data, std::int64_t num_rows,
                                       std::int64_t num_ranks) {
  const std::int64_t positions = (data.sequence_length + num_ranks - 1) / num_ranks;
  const std::int64_t value = bytes_of_value(job);
  const std::int64_t width = job.model.width;
  const std::int64_t tokens = num_rows * data.sequence_length;
  const std::int64_t whole = tokens * width * value;
  const std::int64_t share = num_rows * positions * width * value;
  const auto slice = [&](std::int64_t extent) {
    return tokens * ((extent + num_ranks - 1) / num_ranks) * value;
  };
  const std::int64_t inner = feed_forward_of(job.model);
  const std::int64_t row_bytes =
      std::max<std::int64_t>(1, (job.model.vocabulary + num_ranks - 1) / num_ranks * value);
  const std::int64_t piece_rows =
      std::min(tokens, std::max<std::int64_t>(kLogitsPieceRows, kLogitsPieceBytes / row_bytes));
  return {.block_input = share,
          .block_kept = 2 * share + 2 * whole + slice(4 * width) + slice(2 * inner),
          .block_working = 2 * share + std::max(3 * whole, 2 * whole + slice(std::max(inner, 3 * width))),
          .head = 2 * share + std::max(2 * whole + piece_rows * row_bytes, 3 * whole)};
}

std::int64_t rows_of_micro_batch(const Job& job, int num_ranks, int micro_batches) {
  const int rows = (job.batch_size + num_ranks - 1) / num_ranks;
  return (rows + micro_batches - 1) / micro_batches;
}

}  // namespace saturn::batch
