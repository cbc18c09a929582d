// What nearly every file of the training library includes; parsed once.

#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
