// Steps on float32 values that have no weights, and the ways into and out of them.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/steps.h"

namespace paretrim {

std::unique_ptr<Step> normalize_step(const StepRequest& request);
std::unique_ptr<Step> quantize_numbers_step(const StepRequest& request);
std::unique_ptr<Step> dequantize_step(const StepRequest& request);
std::unique_ptr<Step> float_affine_step(const StepRequest& request);
std::unique_ptr<Step> float_range_step(const StepRequest& request);
std::unique_ptr<Step> float_function_step(const StepRequest& request);
std::unique_ptr<Step> float_sum_step(const StepRequest& request);
std::unique_ptr<Step> float_product_step(const StepRequest& request);
// [C][H][W] planes to [C * H * W] numbers.
std::unique_ptr<Step> float_flatten_step(const StepRequest& request);

// The range that a relu or clamp of float32 leaves.
struct Range {
  float low;
  float high;
};
Range range_of(const Node& node);

// The caller's float32 images become planes, and planes become the consecutive numbers that a caller expects.
std::unique_ptr<Step> load_images_step(const ValueType& type, Buffer out);
std::unique_ptr<Step> store_map_step(const ValueType& type, Buffer in, Buffer out);

}  // namespace paretrim
