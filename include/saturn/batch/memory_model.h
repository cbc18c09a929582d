// How much memory training takes, in the parts that techniques add up: the training state, what forward keeps
// for backward under each checkpointing policy, and what the head needs. Bytes that this program allocates; a
// process's own libraries are not in them.
//
// Shapes: a micro-batch has B rows of T tokens; C is the model's width, F its feed-forward width, V the
// vocabulary.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "saturn/batch/batch.h"

namespace saturn::batch {

/// Which blocks run again in backward instead of keeping what they computed: the knob "checkpointing" of
/// every technique; absent means none.
enum class Checkpointing {
  none,
  selective,  ///< every second block, beginning with the first
  full,       ///< every block
};
const char* name_of(Checkpointing checkpointing);
/// Nothing where `knobs` names a policy that does not exist.
std::optional<Checkpointing> checkpointing_of(const Json& knobs);

/// Bytes of training state for one parameter that a rank holds.
struct StateBytes {
  int weight = 4;        ///< fp32 master
  int gradient = 4;      ///< fp32
  int optimizer = 8;     ///< in fp32: AdamW's two moments, one of the others, none of SGD without momentum
  int compute_copy = 0;  ///< bf16 training: the copy that layers compute with

  std::int64_t all() const { return weight + gradient + optimizer + compute_copy; }
  /// Of every parameter that is held, and of one that is trained besides.
  std::int64_t held() const { return weight + compute_copy; }
  std::int64_t trained() const { return gradient + optimizer; }
};
StateBytes state_bytes_per_parameter(const Job& job);

/// Parameters by where they are, so that a technique can place them: embedding tables (counted once where the
/// head is tied to them), one block, the final norm and an untied head.
struct ParameterCounts {
  std::int64_t embedding = 0;
  std::int64_t block = 0;
  std::int64_t head = 0;        ///< but for a table tied to the embedding
  std::int64_t head_table = 0;  ///< V x C: the table of the head, tied or not
  std::int64_t all = 0;
};
ParameterCounts parameter_counts(const ModelSpec& model);

/// What a rank holds of the job's model: its parameters, and the adapters beside them.
ParameterCounts held_counts(const Job& job);

/// Of those the ones that are trained: only they have gradients and optimiser state. `block` is the largest.
ParameterCounts trained_counts(const Job& job);

/// What one micro-batch takes on a rank that computes `num_rows` rows with whole layers.
struct ActivationBytes {
  std::int64_t block_input = 0;    ///< B T C: what a checkpointed block keeps, and what a pipeline sends
  std::int64_t block_kept = 0;     ///< kept by a block that is not checkpointed, its input included
  std::int64_t block_working = 0;  ///< alive inside one block's backward beside what was kept
  std::int64_t head = 0;           ///< kept and working memory of the final norm and the loss

  /// Forward's keepsakes of `num_blocks` blocks, with the one block that is recomputed at a time.
  std::int64_t kept(std::int64_t num_blocks, Checkpointing checkpointing) const;
};
ActivationBytes activation_bytes(const Job& job, const DataSource& data, std::int64_t num_rows);

/// The same on one of `num_ranks` ranks that split every layer between them (train/tensor_group.h).
ActivationBytes split_activation_bytes(const Job& job, const DataSource& data, std::int64_t num_rows,
                                       std::int64_t num_ranks);

/// Rows of the largest micro-batch where the batch is dealt to `num_ranks` ranks, each share cut in
/// `micro_batches`.
std::int64_t rows_of_micro_batch(const Job& job, int num_ranks, int micro_batches);

}  // namespace saturn::batch
