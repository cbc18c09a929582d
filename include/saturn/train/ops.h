// Operators that models are written with where LibTorch's own leave speed or memory on the table; each has
// its gradient, runs on any device in fp32 and bf16, and is tested against plain ATen.
//
// Operators that a tensor group (train/tensor_group.h) splits take the group; without one they are what they
// are on one device.
//
// Shapes: B rows of a micro-batch, T tokens, C width, V vocabulary, P positions, I and O inputs and outputs;
// t tokens of one rank's share of the sequence, all T without a group.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace saturn::train {
class TensorGroup;
struct Parameter;
struct StepContext;
}  // namespace saturn::train

namespace saturn::train::ops {

/// Where a dropout mask is drawn: the mask is a pure function of these and of (row of the global batch,
/// element of the row), so that no split over ranks or micro-batches changes it.
struct DropoutSite {
  double probability = 0.0;    ///< 0: nothing is dropped
  std::uint64_t key = 0;       ///< of seed, step and place in the model: see `dropout_key`
  std::int64_t first_row = 0;  ///< row of the global batch that is row 0 of the tensor
  /// Element of the row that is the tensor's first: not 0 where the tensor is a part of each row.
  std::int64_t first_element = 0;
};

std::uint64_t dropout_key(std::uint64_t seed, std::int64_t step, std::string_view place);

/// `x` (first dimension: rows) with elements zeroed with the site's probability, the rest scaled up.
at::Tensor dropout(const at::Tensor& x, const DropoutSite& site);

/// Begins a region that the group splits: this rank's share of the sequence, [B, t, C], becomes the whole,
/// [B, T, C]; gradients are summed over the group. What follows may use a slice of every parameter.
at::Tensor enter_split(const at::Tensor& x, const TensorGroup* group);

/// Ends the region: the ranks' [B, T, C] are summed, and this rank keeps its share of the sequence, [B, t,
/// C].
at::Tensor leave_split(const at::Tensor& x, const TensorGroup* group);

/// A parameter that is added to what `leave_split` sums, and must count once: itself on the first rank of the
/// group, zeros on the others.
at::Tensor added_once(const at::Tensor& parameter, const TensorGroup* group);

/// A table whose rows, one a token of the vocabulary, the group splits.
struct TableSplit {
  const TensorGroup* group = nullptr;
  std::int64_t vocabulary = 0;  ///< rows of the whole table; not looked at without a group
};

/// token_table_VC[tokens_BT] + position_table_PC[0..T).
///
/// `tied`: the token table is also the head's. Its gradient is then given row by row (sparse) and added to
/// the dense one of the head by autograd, which saves a table of zeros; on its own it would reach the
/// optimiser sparse.
/// In a group `token_table` is this rank's slice, `position_table` whole, and the result this rank's share of
/// the sequence, [B, t, C].
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& token_table, const at::Tensor& position_table,
                 bool tied, const TableSplit& split = {});

/// token_table_VC[tokens_BT]; `tied` and `split` as for `embed`.
at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& token_table, bool tied,
                        const TableSplit& split = {});

/// x @ weight_IO + bias_O over the last dimension.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// x mapped by the linear map whose weight is `weight` ([inputs, outputs] where weight.outputs is 1, else
/// [outputs, inputs]), plus `bias` where it is defined, plus what the weight's adapter gives. A map whose
/// inputs a group splits gives its rank's part of the sum, and so does its adapter.
at::Tensor linear_map(const at::Tensor& x, const Parameter& weight, const at::Tensor& bias = {});

/// Causal attention of `num_heads` heads. `qkv` holds queries, keys and values side by side: [B, T, 3 C].
/// Returns [B, T, C]. `dropout` falls on the attention probabilities; its elements are (head, query, key).
at::Tensor causal_attention(const at::Tensor& qkv, std::int64_t num_heads, double scale,
                            const DropoutSite& dropout);

/// gelu(x @ fc_weight_IO + fc_bias) @ proj_weight_OI + proj_bias, GELU in its tanh form ("gelu_new").
at::Tensor gelu_mlp(const at::Tensor& x, const at::Tensor& fc_weight, const at::Tensor& fc_bias,
                    const at::Tensor& proj_weight, const at::Tensor& proj_bias);
/// The same of two maps as `linear_map` takes them: as one operator where neither has an adapter.
at::Tensor gelu_mlp(const at::Tensor& x, const Parameter& fc, const at::Tensor& fc_bias,
                    const Parameter& proj, const at::Tensor& proj_bias);

/// silu(gate) * up, of equal shapes.
at::Tensor gated_silu(const at::Tensor& gate, const at::Tensor& up);

/// `weight` times the sum over all targets of the cross-entropy of the logits x @ table_VC^T + bias_V: a
/// scalar in fp32.
///
/// Logits are made and used up in pieces of some rows; where gradients are asked for they are computed along.
/// In a group `table` and `bias` (where defined) are this rank's slices, and the loss the same on every rank;
/// `x` lies in a split region. Errors: c10::IndexError for a target outside [0, V).
at::Tensor head_cross_entropy(const at::Tensor& x, const at::Tensor& table, const at::Tensor& targets,
                              double weight, const TableSplit& split = {}, const at::Tensor& bias = {});

/// `context.loss_weight` times the sum over all rows of the cross-entropy of logits_BV and targets_B, in
/// fp32. While training each target gives `label_smoothing` of itself to all classes alike; while evaluating
/// right predictions are counted into `context.tally`. Errors: c10::IndexError for a target outside [0, V).
at::Tensor class_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double label_smoothing,
                               const StepContext& context);

/// What BatchNorm remembers, in fp32: changed in place while training.
struct RunningStatistics {
  at::Tensor mean;
  at::Tensor variance;
  double momentum = 0.1;  ///< weight of the newest batch
  double epsilon = 1e-5;  ///< added to the variance
};

/// x_BCHW normalised for each channel, times weight_C plus bias_C: while training by the statistics of the
/// global batch, over all ranks of `context.rows` (a collective, forward and backward), otherwise by the
/// running ones.
at::Tensor batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      const RunningStatistics& running, const StepContext& context);

}  // namespace saturn::train::ops
