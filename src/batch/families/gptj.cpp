// GPT-J as the controller knows it.

#include "batch/families/sizes.h"

namespace saturn::batch {
namespace {

std::vector<SizeFault> check_gptj(const Json& sizes) {
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t heads = size_at(sizes, "heads");
  const std::int64_t rotary = size_at(sizes, "rotary_size");
  if (std::vector<SizeFault> faults = check_heads(sizes); !faults.empty()) return faults;
  if (rotary % 2 != 0 || rotary > width / heads)
    return {{"rotary_size",
             "rotary_size = " + std::to_string(rotary) + " in heads of " + std::to_string(width / heads),
             "an even number up to the head's size"}};
  return {};
}

void settle_gptj(ModelSpec& spec) {
  Json& sizes = spec.sizes;
  if (size_at(sizes, "feed_forward") == 0) sizes["feed_forward"] = 4 * size_at(sizes, "width");
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t inner = size_at(sizes, "feed_forward");
  const std::int64_t layers = size_at(sizes, "layers");
  const std::int64_t vocabulary = size_at(sizes, "vocabulary");
  spec.num_layers = static_cast<int>(layers);
  spec.num_heads = static_cast<int>(size_at(sizes, "heads"));
  spec.width = static_cast<int>(width);
  spec.vocabulary = static_cast<int>(vocabulary);
  spec.longest_sequence = static_cast<int>(size_at(sizes, "longest_sequence"));
  spec.num_layer_parameters = 4 * width * width + 2 * width * inner + inner + width + 2 * width;
  spec.num_parameters =
      vocabulary * width + layers * spec.num_layer_parameters + 2 * width + vocabulary * (width + 1);
}

std::int64_t idle_parameters_gptj(const ModelSpec& spec) {
  return std::int64_t{spec.vocabulary} * spec.width;
}

std::vector<ParameterFact> parameters_gptj(const ModelSpec& spec) {
  const std::int64_t width = spec.width;
  const std::int64_t inner = size_at(spec.sizes, "feed_forward");
  Parameters all;
  all.add("transformer.wte.weight", {spec.vocabulary, width});
  for (int i = 0; i < spec.num_layers; ++i) {
    const std::string name = "transformer.h." + std::to_string(i);
    all.next_layer().norm(name + ".ln_1", width);
    for (const char* map : {"q_proj", "k_proj", "v_proj", "out_proj"})
      all.add(name + ".attn." + map + ".weight", {width, width}, 0);
    all.affine(name + ".mlp.fc_in", {inner, width}, 0).affine(name + ".mlp.fc_out", {width, inner}, 0);
  }
  all.next_layer()
      .norm("transformer.ln_f", width)
      .add("lm_head.weight", {spec.vocabulary, width})
      .add("lm_head.bias", {spec.vocabulary});
  return all.take();
}

}  // namespace

Family gptj() {
  Family family{
      .name = "gptj",
      .summary = "decoder whose attention and MLP work side by side, rotary positions in part of a head",
      .sizes = {},
      .defaults = Json::object(),
      .config_keys = {{"layers", "n_layer"},
                      {"heads", "n_head"},
                      {"width", "n_embd"},
                      {"feed_forward", "n_inner"},
                      {"rotary_size", "rotary_dim"},
                      {"vocabulary", "vocab_size"},
                      {"longest_sequence", "n_positions"},
                      {"layer_norm_epsilon", "layer_norm_epsilon"},
                      {"initializer_range", "initializer_range"}},
      .fixed_config = {{"activation_function", "gelu_new"}, {"tie_word_embeddings", false}},
      .check = &check_gptj,
      .settle = &settle_gptj,
      .idle_parameters = &idle_parameters_gptj,
      .parameters = &parameters_gptj,
      .adapter_targets = {"q_proj", "v_proj"}};
  Sizes(family.sizes, family.defaults)
      .blocks()
      .required("rotary_size", integer(2, 1 << 16), "elements of each head that turn with the position")
      .optional("vocabulary", integer(2, 1 << 24), 0, "the data's",
                "rows of the token embedding and of the head")
      .required("longest_sequence", integer(1, 1 << 24), "positions the model is meant for")
      .optional("layer_norm_epsilon", above(0), 1e-5, "1e-05", "added to the variance")
      .optional("initializer_range", above(0), 0.02, "0.02", "standard deviation of a random start");
  return family;
}

}  // namespace saturn::batch
