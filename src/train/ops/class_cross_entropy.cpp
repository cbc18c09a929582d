// The loss of a classifier: its logits are few, and need no pieces.

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/topk.h>

#include <algorithm>

#include "saturn/train/model.h"
#include "saturn/train/ops.h"

namespace saturn::train::ops {
namespace {

void count_right(const at::Tensor& logits, const at::Tensor& targets, Tally& tally) {
  constexpr std::int64_t kMost = 5;
  const std::int64_t k = std::min(kMost, logits.size(1));
  const at::Tensor likeliest = std::get<1>(at::topk(logits, k, /*dim=*/1));
  const at::Tensor right = likeliest.eq(targets.unsqueeze(1)).sum(0).cpu();  // by place
  tally.num_samples += logits.size(0);
  tally.num_right += right[0].item<std::int64_t>();
  tally.num_right_in_5 += right.sum().item<std::int64_t>();
}

}  // namespace

at::Tensor class_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double label_smoothing,
                               const StepContext& context) {
  const at::Tensor wide = logits.to(at::kFloat);
  if (!context.training && context.tally != nullptr) count_right(wide, targets, *context.tally);
  const double smoothing = context.training ? label_smoothing : 0.0;
  constexpr std::int64_t kIgnoreNone = -100;
  return at::cross_entropy_loss(wide, targets, /*weight=*/{}, at::Reduction::Sum, kIgnoreNone, smoothing) *
         context.loss_weight;
}

}  // namespace saturn::train::ops
