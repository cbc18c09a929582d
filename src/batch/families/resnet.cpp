// Residual networks as the controller knows them.

#include <array>

#include "batch/families/sizes.h"
#include "batch/families/timm.h"

namespace saturn::batch {
namespace {

// The first map, in every such network.
constexpr std::int64_t kStem = 64, kStemKernel = 7;

constexpr std::array kStages = {"blocks_1", "blocks_2", "blocks_3", "blocks_4"};

struct Stage {
  std::int64_t blocks = 0;
  std::int64_t inputs = 0;   // channels of the first block's input
  std::int64_t inner = 0;    // of its 3x3 maps
  std::int64_t outputs = 0;  // of every block
  std::int64_t stride = 1;   // of the first block
};

std::array<Stage, 4> stages_of(const Json& sizes) {
  const bool bottleneck = sizes.at("bottleneck").get<bool>();
  const std::int64_t width = size_at(sizes, "width");
  std::array<Stage, 4> stages;
  std::int64_t inputs = kStem;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const std::int64_t inner = width << i;
    const std::int64_t outputs = bottleneck ? 4 * inner : inner;
    stages[i] = {size_at(sizes, kStages[i]), inputs, inner, outputs, i == 0 ? 1 : 2};
    inputs = outputs;
  }
  return stages;
}

// Calls visit(parameters, multiplications, values) of each convolution with its norm, by the image's side.
template <class Visit>
void for_each_map(const Json& sizes, std::int64_t side, const Visit& visit) {
  const bool bottleneck = sizes.at("bottleneck").get<bool>();
  const auto map = [&](std::int64_t inputs, std::int64_t outputs, std::int64_t kernel,
                       std::int64_t out_side) {
    const std::int64_t weights = inputs * outputs * kernel * kernel;
    visit(weights + 2 * outputs, weights * out_side * out_side, outputs * out_side * out_side);
  };
  for (const Stage& stage : stages_of(sizes)) {
    for (std::int64_t i = 0; i < stage.blocks; ++i) {
      const std::int64_t stride = i == 0 ? stage.stride : 1;
      const std::int64_t inputs = i == 0 ? stage.inputs : stage.outputs;
      const std::int64_t after = (side + stride - 1) / stride;
      if (bottleneck) {
        map(inputs, stage.inner, 1, side);
        map(stage.inner, stage.inner, 3, after);
        map(stage.inner, stage.outputs, 1, after);
      } else {
        map(inputs, stage.inner, 3, after);
        map(stage.inner, stage.outputs, 3, after);
      }
      if (i == 0 && (stride != 1 || inputs != stage.outputs)) map(inputs, stage.outputs, 1, after);
      side = after;
    }
  }
}

// A convolution and a pool halve the side, rounded up.
std::int64_t side_after_stem(int image_size) {
  return (image_size + 3) / 4;
}

void settle_resnet(ModelSpec& spec) {
  const Json& sizes = spec.sizes;
  const std::int64_t channels = size_at(sizes, "channels");
  const std::int64_t classes = size_at(sizes, "classes");
  const std::int64_t features = stages_of(sizes).back().outputs;
  spec.reads_images = true;
  spec.num_layers = 0;
  for (const char* stage : kStages) spec.num_layers += static_cast<int>(size_at(sizes, stage));
  spec.num_heads = 0;
  spec.width = static_cast<int>(features);
  spec.vocabulary = static_cast<int>(classes);
  spec.channels = static_cast<int>(channels);
  spec.longest_sequence = 1;
  std::int64_t blocks = 0;
  for_each_map(sizes, 1, [&](std::int64_t parameters, std::int64_t, std::int64_t) { blocks += parameters; });
  spec.num_layer_parameters = blocks / spec.num_layers;
  spec.num_parameters =
      channels * kStem * kStemKernel * kStemKernel + 2 * kStem + blocks + (features + 1) * classes;
}

std::int64_t idle_parameters_resnet(const ModelSpec&) {
  return 0;
}

double forward_flops_resnet(const ModelSpec& spec, int image_size) {
  const std::int64_t side = (image_size + 1) / 2;
  auto multiplications = static_cast<double>(spec.channels * kStem * kStemKernel * kStemKernel * side * side);
  for_each_map(spec.sizes, side_after_stem(image_size), [&](std::int64_t, std::int64_t count, std::int64_t) {
    multiplications += static_cast<double>(count);
  });
  return 2.0 * (multiplications + static_cast<double>(spec.width) * spec.vocabulary);
}

// Of each convolution its output, and the normalised and rectified one that the next begins with.
std::int64_t kept_values_resnet(const ModelSpec& spec, int image_size) {
  std::int64_t values = 0;
  for_each_map(spec.sizes, side_after_stem(image_size),
               [&](std::int64_t, std::int64_t, std::int64_t count) { values += 2 * count; });
  return values;
}

std::vector<ParameterFact> parameters_resnet(const ModelSpec& spec) {
  const bool bottleneck = spec.sizes.at("bottleneck").get<bool>();
  Parameters all;
  const auto map = [&](const std::string& weight, const std::string& norm, std::int64_t inputs,
                       std::int64_t outputs, std::int64_t kernel) {
    all.add(weight + ".weight", {outputs, inputs, kernel, kernel}).norm(norm, outputs);
  };
  map("conv1", "bn1", spec.channels, kStem, kStemKernel);
  const std::array<Stage, 4> stages = stages_of(spec.sizes);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const Stage& stage = stages[s];
    for (std::int64_t i = 0; i < stage.blocks; ++i) {
      const std::string name = "layer" + std::to_string(s + 1) + "." + std::to_string(i);
      const std::int64_t inputs = i == 0 ? stage.inputs : stage.outputs;
      all.next_layer();
      int index = 0;
      const auto next = [&](std::int64_t from, std::int64_t to, std::int64_t kernel) {
        const std::string number = std::to_string(++index);
        map(name + ".conv" + number, name + ".bn" + number, from, to, kernel);
      };
      next(inputs, stage.inner, bottleneck ? 1 : 3);
      next(stage.inner, bottleneck ? stage.inner : stage.outputs, 3);
      if (bottleneck) next(stage.inner, stage.outputs, 1);
      if (i == 0 && (stage.stride != 1 || inputs != stage.outputs))
        map(name + ".downsample.0", name + ".downsample.1", inputs, stage.outputs, 1);
    }
  }
  all.next_layer().affine("fc", {spec.vocabulary, spec.width}, 0);
  return all.take();
}

struct Variant {
  const char* name;
  bool bottleneck;
  std::array<int, 4> blocks;
};

constexpr Variant kVariants[] = {
    {"resnet18", false, {2, 2, 2, 2}},  {"resnet34", false, {3, 4, 6, 3}},
    {"resnet50", true, {3, 4, 6, 3}},   {"resnet101", true, {3, 4, 23, 3}},
    {"resnet152", true, {3, 8, 36, 3}}, {"resnet200", true, {3, 24, 36, 3}},
};

Result<std::array<std::int64_t, 4>> four_at(const Json& list, const std::string& where) {
  std::array<std::int64_t, 4> numbers{};
  bool good = list.is_array() && list.size() == numbers.size();
  for (std::size_t i = 0; good && i < numbers.size(); ++i) {
    good = list[i].is_number_integer() && list[i].get<std::int64_t>() > 0 &&
           list[i].get<std::int64_t>() < 1 << 20;
    if (good) numbers[i] = list[i].get<std::int64_t>();
  }
  if (good) return numbers;
  return Diagnostic{
      .where = where, .what = list.dump() + " stands here", .expected = "four integers of at least 1"};
}

// "resnet50", with `layers` and `channels` where they differ from the name's.
Result<Json> flat_resnet_config(Json config, const std::string& path) {
  const std::string architecture = timm_architecture(config);
  const Variant* named = nullptr;
  for (const Variant& variant : kVariants)
    if (architecture == variant.name) named = &variant;
  if (named == nullptr)
    return Diagnostic{.where = path + "#/architecture",
                      .what = "architecture " + in_quotes(architecture) + " is not in this build",
                      .expected = "one of resnet18, resnet34, resnet50, resnet101, resnet152, resnet200",
                      .fix = "start from a preset of `saturn models`"};
  Json sizes = {{"layers", named->blocks}, {"channels", {64, 128, 256, 512}}, {"in_chans", 3}};
  SATURN_TRY(sizes, timm_sizes(config, path, std::move(sizes),
                               {"layers", "channels", "in_chans", "num_classes", "global_pool"},
                               {"drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last"},
                               {{"output_stride", 32},
                                {"cardinality", 1},
                                {"base_width", 64},
                                {"stem_type", ""},
                                {"replace_stem_pool", false},
                                {"avg_down", false},
                                {"stem_width", 64}}));
  SATURN_TRY(const auto blocks, four_at(sizes.at("layers"), path + "#/model_args/layers"));
  SATURN_TRY(const auto channels, four_at(sizes.at("channels"), path + "#/model_args/channels"));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    sizes[kStages[i]] = blocks[i];
    if (channels[i] != channels[0] << i)
      return Diagnostic{.where = path + "#/model_args/channels",
                        .what = sizes.at("channels").dump() + " stands here",
                        .expected = "channels that each stage doubles"};
  }
  sizes["width"] = channels[0];
  sizes["bottleneck"] = named->bottleneck;
  return sizes;
}

}  // namespace

Family resnet() {
  Family family{.name = "resnet",
                .summary = "residual network of convolutions with BatchNorm, basic or bottleneck blocks",
                .sizes = {},
                .defaults = Json::object(),
                .config_keys = {{"blocks_1", "blocks_1"},
                                {"blocks_2", "blocks_2"},
                                {"blocks_3", "blocks_3"},
                                {"blocks_4", "blocks_4"},
                                {"width", "width"},
                                {"bottleneck", "bottleneck"},
                                {"channels", "in_chans"},
                                {"classes", "num_classes"},
                                {"batch_norm_epsilon", "batch_norm_epsilon"},
                                {"batch_norm_momentum", "batch_norm_momentum"}},
                .fixed_config = {{"global_pool", "avg"}},
                .flat_config = &flat_resnet_config,
                .check = [](const Json&) { return std::vector<SizeFault>{}; },
                .settle = &settle_resnet,
                .idle_parameters = &idle_parameters_resnet,
                .parameters = &parameters_resnet,
                .head_prefix = "fc.",
                .batch_statistics = true,
                .reads_images = true,
                .open_size = "classes",
                .timm_prefix = "resnet",
                .forward_flops = &forward_flops_resnet,
                .kept_values = &kept_values_resnet};
  Sizes(family.sizes, family.defaults)
      .required("blocks_1", integer(1, 1000), "blocks of the first stage")
      .required("blocks_2", integer(1, 1000), "of the second, at half the resolution")
      .required("blocks_3", integer(1, 1000), "of the third")
      .required("blocks_4", integer(1, 1000), "of the fourth")
      .optional("width", integer(1, 1 << 14), 64, "64",
                "channels of the first stage's 3x3 maps; doubled by each")
      .optional("bottleneck", boolean(), true, "true", "blocks of 1x1, 3x3 and 1x1 maps; else of two of 3x3")
      .optional("channels", integer(1, 4), 0, "the data's", "of the images: 3 of colour, 1 of grey")
      .optional("classes", integer(1, 1 << 24), 0, "the data's", "that the head tells apart")
      .optional("batch_norm_epsilon", above(0), 1e-5, "1e-05", "added to the variance")
      .optional("batch_norm_momentum", above(0), 0.1, "0.1", "weight of a batch in the running statistics");
  return family;
}

}  // namespace saturn::batch
