// LLaMA as the controller knows it: LLaMA-2, LLaMA-3 and what shares their architecture.

#include "batch/families/sizes.h"
#include "saturn/base/nearest.h"

namespace saturn::batch {
namespace {

std::vector<SizeFault> check_llama(const Json& sizes) {
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t heads = size_at(sizes, "heads");
  const std::int64_t kv_heads = size_at(sizes, "kv_heads");
  const std::int64_t head_size = size_at(sizes, "head_size");
  std::vector<SizeFault> faults;
  if (head_size == 0 && width % heads != 0)
    faults.push_back({"heads",
                      "heads = " + std::to_string(heads) + " do not divide width = " + std::to_string(width),
                      "a divisor of the width, or a head_size"});
  if (kv_heads != 0 && heads % kv_heads != 0)
    faults.push_back(
        {"kv_heads",
         "kv_heads = " + std::to_string(kv_heads) + " do not divide heads = " + std::to_string(heads),
         "a divisor of the heads"});
  const std::int64_t size = head_size != 0 ? head_size : width / heads;
  if (size % 2 != 0)
    faults.push_back({head_size != 0 ? "head_size" : "heads",
                      "a head is " + std::to_string(size) + " wide, and rotary positions turn pairs",
                      "an even head size"});
  return faults;
}

void settle_llama(ModelSpec& spec) {
  Json& sizes = spec.sizes;
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t heads = size_at(sizes, "heads");
  if (size_at(sizes, "kv_heads") == 0) sizes["kv_heads"] = heads;
  if (size_at(sizes, "head_size") == 0) sizes["head_size"] = width / heads;
  const std::int64_t kv_heads = size_at(sizes, "kv_heads");
  const std::int64_t head_size = size_at(sizes, "head_size");
  const std::int64_t inner = size_at(sizes, "feed_forward");
  const std::int64_t layers = size_at(sizes, "layers");
  const std::int64_t vocabulary = size_at(sizes, "vocabulary");
  spec.num_layers = static_cast<int>(layers);
  spec.num_heads = static_cast<int>(heads);
  spec.width = static_cast<int>(width);
  spec.vocabulary = static_cast<int>(vocabulary);
  spec.longest_sequence = static_cast<int>(size_at(sizes, "longest_sequence"));
  const std::int64_t attention = 2 * width * heads * head_size + 2 * width * kv_heads * head_size;
  spec.num_layer_parameters = attention + 3 * width * inner + 2 * width;
  const std::int64_t head = sizes.at("tied_head").get<bool>() ? 0 : vocabulary * width;
  spec.num_parameters = vocabulary * width + layers * spec.num_layer_parameters + width + head;
}

std::int64_t idle_parameters_llama(const ModelSpec& spec) {
  return spec.sizes.at("tied_head").get<bool>() ? 0 : std::int64_t{spec.vocabulary} * spec.width;
}

// `rope_scaling`, and the `rope_parameters` that later versions write, as the flat keys of the sizes.
Result<Json> flat_llama_config(Json config, const std::string& path) {
  const char* const nested = config.contains("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.contains(nested) || config[nested].is_null()) return config;
  const Json rope = config[nested];
  const std::string pointer = path + "#/" + nested;
  if (!rope.is_object())
    return Diagnostic{
        .where = pointer, .what = rope.dump() + " stands here", .expected = "an object or null"};
  std::string type = "default";
  for (const char* key : {"rope_type", "type"})
    if (rope.contains(key) && rope[key].is_string()) type = rope[key].get<std::string>();
  if (type != "default" && type != "llama3")
    return Diagnostic{.where = pointer + "/rope_type",
                      .what = "positions are scaled by " + in_quotes(type),
                      .expected = "\"default\" or \"llama3\""};
  if (rope.contains("rope_theta")) config["rope_theta"] = rope["rope_theta"];
  if (type == "llama3") {
    for (const char* key :
         {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!rope.contains(key))
        return Diagnostic{.where = pointer, .what = in_quotes(key) + " is missing", .expected = "a number"};
      config["rope_" + std::string(key)] = rope[key];
    }
  }
  return config;
}

std::vector<ParameterFact> parameters_llama(const ModelSpec& spec) {
  const std::int64_t width = spec.width;
  const std::int64_t inner = size_at(spec.sizes, "feed_forward");
  const std::int64_t head_size = size_at(spec.sizes, "head_size");
  const std::int64_t q_width = spec.num_heads * head_size;
  const std::int64_t kv_width = size_at(spec.sizes, "kv_heads") * head_size;
  Parameters all;
  all.add("model.embed_tokens.weight", {spec.vocabulary, width});
  for (int i = 0; i < spec.num_layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i);
    all.next_layer()
        .add(name + ".input_layernorm.weight", {width})
        .add(name + ".self_attn.q_proj.weight", {q_width, width}, 0)
        .add(name + ".self_attn.k_proj.weight", {kv_width, width}, 0)
        .add(name + ".self_attn.v_proj.weight", {kv_width, width}, 0)
        .add(name + ".self_attn.o_proj.weight", {width, q_width}, 0)
        .add(name + ".post_attention_layernorm.weight", {width})
        .add(name + ".mlp.gate_proj.weight", {inner, width}, 0)
        .add(name + ".mlp.up_proj.weight", {inner, width}, 0)
        .add(name + ".mlp.down_proj.weight", {width, inner}, 0);
  }
  all.next_layer().add("model.norm.weight", {width});
  if (!spec.sizes.at("tied_head").get<bool>()) all.add("lm_head.weight", {spec.vocabulary, width});
  return all.take();
}

}  // namespace

Family llama() {
  Family family{.name = "llama",
                .summary = "decoder with rotary positions, grouped-query attention, RMSNorm, SwiGLU",
                .sizes = {},
                .defaults = Json::object(),
                .config_keys = {{"layers", "num_hidden_layers"},
                                {"heads", "num_attention_heads"},
                                {"kv_heads", "num_key_value_heads"},
                                {"head_size", "head_dim"},
                                {"width", "hidden_size"},
                                {"feed_forward", "intermediate_size"},
                                {"vocabulary", "vocab_size"},
                                {"longest_sequence", "max_position_embeddings"},
                                {"rms_norm_epsilon", "rms_norm_eps"},
                                {"initializer_range", "initializer_range"},
                                {"rope_theta", "rope_theta"},
                                {"rope_factor", "rope_factor"},
                                {"rope_low_frequency", "rope_low_freq_factor"},
                                {"rope_high_frequency", "rope_high_freq_factor"},
                                {"rope_original_length", "rope_original_max_position_embeddings"},
                                {"tied_head", "tie_word_embeddings"}},
                .fixed_config = {{"hidden_act", "silu"}, {"attention_bias", false}, {"mlp_bias", false}},
                .flat_config = &flat_llama_config,
                .check = &check_llama,
                .settle = &settle_llama,
                .idle_parameters = &idle_parameters_llama,
                .parameters = &parameters_llama,
                .adapter_targets = {"q_proj", "v_proj"}};
  Sizes(family.sizes, family.defaults)
      .required("layers", integer(1, 10000), "transformer blocks")
      .required("heads", integer(1, 1 << 16), "attention heads of a block")
      .optional("kv_heads", integer(0, 1 << 16), 0, "heads", "heads of the keys and values")
      .optional("head_size", integer(0, 1 << 16), 0, "width / heads", "width of a head")
      .required("width", integer(1, 1 << 20), "of the residual stream")
      .required("feed_forward", integer(1, 1 << 22), "inner width of a block's gated part")
      .optional("vocabulary", integer(2, 1 << 24), 0, "the data's",
                "rows of the token embedding and of the head")
      .required("longest_sequence", integer(1, 1 << 24), "positions the model is meant for")
      .optional("rms_norm_epsilon", above(0), 1e-5, "1e-05", "added to the mean square")
      .optional("initializer_range", above(0), 0.02, "0.02", "standard deviation of a random start")
      .optional("rope_theta", above(0), 10000.0, "10000", "base of the rotary frequencies")
      .optional("rope_factor", at_least(0), 0.0, "0",
                "LLaMA-3's scaling of long wave lengths; 0: positions are not scaled")
      .optional("rope_low_frequency", above(0), 1.0, "1", "with rope_factor: below it, all is scaled")
      .optional("rope_high_frequency", above(0), 4.0, "4", "with rope_factor: above it, nothing is")
      .optional("rope_original_length", integer(1, 1 << 24), 8192, "8192",
                "with rope_factor: its sequence length")
      .optional("tied_head", boolean(), false, "false", "the head is the token embedding");
  return family;
}

}  // namespace saturn::batch
