// Steps on float32 values without weights, and conversions from and to float32.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/steps.h"

namespace paretrim {

std::unique_ptr<Step> normalize_step(const StepRequest& request);
std::unique_ptr<Step> quantize_values_step(const StepRequest& request);
std::unique_ptr<Step> dequantize_step(const StepRequest& request);
std::unique_ptr<Step> float_affine_step(const StepRequest& request);
std::unique_ptr<Step> float_range_step(const StepRequest& request);
std::unique_ptr<Step> float_function_step(const StepRequest& request);
std::unique_ptr<Step> float_sum_step(const StepRequest& request);
std::unique_ptr<Step> float_product_step(const StepRequest& request);
// Planes [C][H][W] to a vector [C * H * W].
std::unique_ptr<Step> float_flatten_step(const StepRequest& request);

// Copies the caller's float32 images to planes, and planes to the caller's contiguous output.
std::unique_ptr<Step> load_images_step(const ValueType& type, Buffer out);
std::unique_ptr<Step> store_map_step(const ValueType& type, Buffer in, Buffer out);

}  // namespace paretrim
