// config.json of models of images, as timm writes it.

#pragma once

#include <cstdint>

#include "saturn/base/json.h"
#include "saturn/batch/batch.h"

namespace saturn::models {

struct TimmConfig {
  const char* architecture;
  std::int64_t features = 0;
  std::int64_t classes = 0;
  const char* pool = "";
  const char* first_layer = "";
  const char* last_layer = "";
  std::int64_t channels = 0;
  std::int64_t image_size = 0;  ///< 0: any; 224 is written
  Json arguments;               ///< that timm makes the architecture with
};

/// `images`: how the model's images were made ready; null where that is not known.
inline Json timm_config(TimmConfig config, const batch::ImageSettings* images) {
  constexpr std::int64_t kUsualSize = 224;
  const std::int64_t side = config.image_size != 0 ? config.image_size
                            : images != nullptr    ? images->size
                                                   : kUsualSize;
  config.arguments["in_chans"] = config.channels;
  config.arguments["num_classes"] = config.classes;
  Json preparation = {{"input_size", {config.channels, side, side}},
                      {"fixed_input_size", config.image_size != 0},
                      {"interpolation", images != nullptr ? images->interpolation : "bilinear"},
                      {"num_classes", config.classes},
                      {"first_conv", config.first_layer},
                      {"classifier", config.last_layer}};
  if (images != nullptr) {
    preparation["crop_pct"] = images->resize == 0 ? 1.0 : static_cast<double>(images->size) / images->resize;
    preparation["mean"] = images->mean;
    preparation["std"] = images->deviation;
  }
  Json whole = {{"architecture", config.architecture},       {"num_classes", config.classes},
                {"num_features", config.features},           {"global_pool", config.pool},
                {"model_args", std::move(config.arguments)}, {"pretrained_cfg", std::move(preparation)}};
  if (images != nullptr && !images->classes.empty()) whole["label_names"] = images->classes;
  return whole;
}

}  // namespace saturn::models
