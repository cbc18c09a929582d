// The vision transformer as the controller knows it.

#include <charconv>

#include "batch/families/sizes.h"
#include "batch/families/timm.h"

namespace saturn::batch {
namespace {

std::vector<SizeFault> check_vit(const Json& sizes) {
  const std::int64_t patch = size_at(sizes, "patch_size");
  const std::int64_t image = size_at(sizes, "image_size");
  std::vector<SizeFault> faults = check_heads(sizes);
  if (image != 0 && image % patch != 0)
    faults.push_back(
        {"patch_size",
         "patch_size = " + std::to_string(patch) + " does not divide image_size = " + std::to_string(image),
         "a divisor of the image's side"});
  return faults;
}

void settle_vit(ModelSpec& spec) {
  Json& sizes = spec.sizes;
  if (size_at(sizes, "feed_forward") == 0) sizes["feed_forward"] = 4 * size_at(sizes, "width");
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t inner = size_at(sizes, "feed_forward");
  const std::int64_t layers = size_at(sizes, "layers");
  const std::int64_t patch = size_at(sizes, "patch_size");
  const std::int64_t channels = size_at(sizes, "channels");
  const std::int64_t classes = size_at(sizes, "classes");
  const std::int64_t side = size_at(sizes, "image_size") / patch;
  spec.reads_images = true;
  spec.num_layers = static_cast<int>(layers);
  spec.num_heads = static_cast<int>(size_at(sizes, "heads"));
  spec.width = static_cast<int>(width);
  spec.vocabulary = static_cast<int>(classes);
  spec.image_size = static_cast<int>(size_at(sizes, "image_size"));
  spec.channels = static_cast<int>(channels);
  spec.longest_sequence = static_cast<int>(side * side + 1);  // and the class token
  const std::int64_t attention = width * 3 * width + 3 * width + width * width + width;
  const std::int64_t feed_forward = width * inner + inner + inner * width + width;
  const std::int64_t norm = 2 * width;
  spec.num_layer_parameters = attention + feed_forward + 2 * norm;
  const std::int64_t embedding =
      channels * patch * patch * width + width + width + spec.longest_sequence * width;
  spec.num_parameters = embedding + layers * spec.num_layer_parameters + norm + (width + 1) * classes;
}

// The embedding works once for every patch and the head once for an image: both are small beside the blocks.
std::int64_t idle_parameters_vit(const ModelSpec& spec) {
  return spec.num_parameters - spec.num_layers * spec.num_layer_parameters;
}

std::vector<ParameterFact> parameters_vit(const ModelSpec& spec) {
  const std::int64_t width = spec.width;
  const std::int64_t inner = size_at(spec.sizes, "feed_forward");
  const std::int64_t patch = size_at(spec.sizes, "patch_size");
  Parameters all;
  all.add("cls_token", {1, 1, width})
      .add("pos_embed", {1, spec.longest_sequence, width})
      .add("patch_embed.proj.weight", {width, spec.channels, patch, patch})
      .add("patch_embed.proj.bias", {width});
  for (int i = 0; i < spec.num_layers; ++i) {
    const std::string name = "blocks." + std::to_string(i);
    all.next_layer()
        .norm(name + ".norm1", width)
        .affine(name + ".attn.qkv", {3 * width, width}, 0)
        .affine(name + ".attn.proj", {width, width}, 0)
        .norm(name + ".norm2", width)
        .affine(name + ".mlp.fc1", {inner, width}, 0)
        .affine(name + ".mlp.fc2", {width, inner}, 0);
  }
  all.next_layer().norm("norm", width).affine("head", {spec.vocabulary, width}, 0);
  return all.take();
}

struct Variant {
  const char* name;
  std::int64_t width, layers, heads;
  double mlp_ratio;
};

constexpr Variant kVariants[] = {
    {"tiny", 192, 12, 3, 4.0},
    {"small", 384, 12, 6, 4.0},
    {"base", 768, 12, 12, 4.0},
    {"large", 1024, 24, 16, 4.0},
    {"huge", 1280, 32, 16, 4.0},
    {"giant", 1408, 40, 16, 48.0 / 11},
    {"gigantic", 1664, 48, 16, 64.0 / 13},
};

// "vit_base_patch16_224": the variant, the patch and the image.
Result<Json> flat_vit_config(Json config, const std::string& path) {
  const std::string architecture = timm_architecture(config);
  Json sizes;
  for (const Variant& variant : kVariants) {
    const std::string begin = std::string("vit_") + variant.name + "_patch";
    if (!architecture.starts_with(begin)) continue;
    std::int64_t patch = 0, image = 0;
    const char* const end = architecture.data() + architecture.size();
    const auto after_patch = std::from_chars(architecture.data() + begin.size(), end, patch);
    if (after_patch.ec != std::errc() || after_patch.ptr == end || *after_patch.ptr != '_') break;
    const auto after_image = std::from_chars(after_patch.ptr + 1, end, image);
    if (after_image.ec != std::errc() || after_image.ptr != end) break;
    sizes = {{"embed_dim", variant.width},
             {"depth", variant.layers},
             {"num_heads", variant.heads},
             {"mlp_ratio", variant.mlp_ratio},
             {"patch_size", patch},
             {"img_size", image},
             {"in_chans", 3}};
  }
  if (sizes.is_null())
    return Diagnostic{.where = path + "#/architecture",
                      .what = "architecture " + in_quotes(architecture) + " is not in this build",
                      .expected = "vit_{tiny,small,base,large,huge,giant,gigantic}_patch{P}_{S}",
                      .fix = "start from a preset of `saturn models`"};
  SATURN_TRY(sizes, timm_sizes(config, path, std::move(sizes),
                               {"embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size", "img_size",
                                "in_chans", "num_classes", "global_pool"},
                               {"drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate",
                                "attn_drop_rate", "drop_path_rate", "weight_init", "fix_init"},
                               {{"qkv_bias", true},
                                {"qk_norm", false},
                                {"class_token", true},
                                {"pre_norm", false},
                                {"no_embed_class", false},
                                {"reg_tokens", 0},
                                {"init_values", nullptr},
                                {"fc_norm", false},
                                {"dynamic_img_size", false},
                                {"proj_bias", true}}));
  // One side, or two that are the same.
  for (const char* key : {"img_size", "patch_size"}) {
    Json& side = sizes[key];
    if (side.is_array() && side.size() == 2 && side[0] == side[1]) side = Json(side[0]);
  }
  const Json ratio = sizes.at("mlp_ratio"), width = sizes.at("embed_dim");
  if (!ratio.is_number() || !width.is_number_integer() || ratio.get<double>() * width.get<double>() > 1e9)
    return Diagnostic{.where = path + "#/model_args/mlp_ratio", .what = ratio.dump(), .expected = "a number"};
  sizes["feed_forward"] = static_cast<std::int64_t>(width.get<double>() * ratio.get<double>());
  return sizes;
}

}  // namespace

Family vit() {
  Family family{.name = "vit",
                .summary = "vision transformer: patches, a class token, LayerNorm before each part, GELU",
                .sizes = {},
                .defaults = Json::object(),
                .config_keys = {{"layers", "depth"},
                                {"heads", "num_heads"},
                                {"width", "embed_dim"},
                                {"feed_forward", "feed_forward"},
                                {"patch_size", "patch_size"},
                                {"image_size", "img_size"},
                                {"channels", "in_chans"},
                                {"classes", "num_classes"},
                                {"layer_norm_epsilon", "layer_norm_epsilon"},
                                {"initializer_range", "initializer_range"}},
                .fixed_config = {{"global_pool", "token"}},
                .flat_config = &flat_vit_config,
                .check = &check_vit,
                .settle = &settle_vit,
                .idle_parameters = &idle_parameters_vit,
                .parameters = &parameters_vit,
                .adapter_targets = {"qkv"},
                .head_prefix = "head.",
                .reads_images = true,
                .open_size = "classes",
                .timm_prefix = "vit_"};
  Sizes(family.sizes, family.defaults)
      .blocks()
      .required("patch_size", integer(1, 1 << 12), "side of a patch in pixels")
      .optional("image_size", integer(1, 1 << 14), 0, "the data's", "side of the images in pixels")
      .optional("channels", integer(1, 4), 0, "the data's", "of the images: 3 of colour, 1 of grey")
      .optional("classes", integer(1, 1 << 24), 0, "the data's", "that the head tells apart")
      .optional("layer_norm_epsilon", above(0), 1e-6, "1e-06", "added to the variance")
      .optional("initializer_range", above(0), 0.02, "0.02", "standard deviation of a random start");
  return family;
}

}  // namespace saturn::batch
