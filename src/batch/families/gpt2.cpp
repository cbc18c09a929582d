// GPT-2 as the controller knows it.

#include "batch/families/sizes.h"

namespace saturn::batch {
namespace {

void settle_gpt2(ModelSpec& spec) {
  Json& sizes = spec.sizes;
  if (size_at(sizes, "feed_forward") == 0) sizes["feed_forward"] = 4 * size_at(sizes, "width");
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t inner = size_at(sizes, "feed_forward");
  const std::int64_t layers = size_at(sizes, "layers");
  const std::int64_t vocabulary = size_at(sizes, "vocabulary");
  const std::int64_t positions = size_at(sizes, "longest_sequence");
  spec.num_layers = static_cast<int>(layers);
  spec.num_heads = static_cast<int>(size_at(sizes, "heads"));
  spec.width = static_cast<int>(width);
  spec.vocabulary = static_cast<int>(vocabulary);
  spec.longest_sequence = static_cast<int>(positions);
  const std::int64_t attention = width * 3 * width + 3 * width + width * width + width;
  const std::int64_t feed_forward = width * inner + inner + inner * width + width;
  const std::int64_t norm = 2 * width;
  spec.num_layer_parameters = attention + feed_forward + 2 * norm;
  const std::int64_t head = sizes.at("tied_head").get<bool>() ? 0 : vocabulary * width;
  spec.num_parameters =
      vocabulary * width + positions * width + layers * spec.num_layer_parameters + norm + head;
}

std::int64_t idle_parameters_gpt2(const ModelSpec& spec) {
  const std::int64_t width = spec.width;
  const bool tied = spec.sizes.at("tied_head").get<bool>();
  return spec.longest_sequence * width + (tied ? 0 : spec.vocabulary * width);
}

std::vector<ParameterFact> parameters_gpt2(const ModelSpec& spec) {
  const std::int64_t width = spec.width;
  const std::int64_t inner = size_at(spec.sizes, "feed_forward");
  Parameters all;
  all.add("transformer.wte.weight", {spec.vocabulary, width})
      .add("transformer.wpe.weight", {spec.longest_sequence, width});
  for (int i = 0; i < spec.num_layers; ++i) {
    const std::string name = "transformer.h." + std::to_string(i);
    all.next_layer()
        .norm(name + ".ln_1", width)
        .affine(name + ".attn.c_attn", {width, 3 * width}, 1)
        .affine(name + ".attn.c_proj", {width, width}, 1)
        .norm(name + ".ln_2", width)
        .affine(name + ".mlp.c_fc", {width, inner}, 1)
        .affine(name + ".mlp.c_proj", {inner, width}, 1);
  }
  all.next_layer().norm("transformer.ln_f", width);
  if (!spec.sizes.at("tied_head").get<bool>()) all.add("lm_head.weight", {spec.vocabulary, width});
  return all.take();
}

}  // namespace

Family gpt2() {
  Family family{.name = "gpt2",
                .summary = "decoder with learned positions, LayerNorm before each part, GELU",
                .sizes = {},
                .defaults = Json::object(),
                .config_keys = {{"layers", "n_layer"},
                                {"heads", "n_head"},
                                {"width", "n_embd"},
                                {"feed_forward", "n_inner"},
                                {"vocabulary", "vocab_size"},
                                {"longest_sequence", "n_positions"},
                                {"layer_norm_epsilon", "layer_norm_epsilon"},
                                {"initializer_range", "initializer_range"},
                                {"tied_head", "tie_word_embeddings"}},
                .fixed_config = {{"activation_function", "gelu_new"},
                                 {"scale_attn_weights", true},
                                 {"scale_attn_by_inverse_layer_idx", false},
                                 {"add_cross_attention", false}},
                .flat_config = nullptr,
                .check = &check_heads,
                .settle = &settle_gpt2,
                .idle_parameters = &idle_parameters_gpt2,
                .parameters = &parameters_gpt2,
                .adapter_targets = {"c_attn"}};
  Sizes(family.sizes, family.defaults)
      .blocks()
      .optional("vocabulary", integer(2, 1 << 24), 0, "the data's",
                "rows of the token embedding and of the head")
      .required("longest_sequence", integer(1, 1 << 24), "positions the model has")
      .optional("layer_norm_epsilon", above(0), 1e-5, "1e-05", "added to the variance")
      .optional("initializer_range", above(0), 0.02, "0.02", "standard deviation of a random start")
      .optional("tied_head", boolean(), true, "true", "the head is the token embedding");
  return family;
}

}  // namespace saturn::batch
