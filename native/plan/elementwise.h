// Elementwise steps on integers, and the steps that quantize the images.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "graph/graph.h"
#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

// float32 ratio of two scales, as defined in docs/integer-graph.md. Throws corrupt_file if it is not finite.
float ratio(float numerator, float denominator, const Node& node);

Addition addition_of(const Node& node, const ValueType& first, const ValueType& second);
Requantization requantization_of(const Node& node);

// A result of so many steps above the zero point, rounded onto its grid and clamped.
inline std::uint8_t onto_grid(float steps, const Requantization& to) {
  const float rounded = std::rint(steps) + static_cast<float>(to.zero_point);
  return static_cast<std::uint8_t>(std::min(std::max(rounded, static_cast<float>(to.low)), static_cast<float>(to.high)));
}

std::unique_ptr<Step> add_step(const Addition& by, const Layout& layout, const Operands& operands, const Kernels& kernels);
// If one operand is a single pixel and the other is not, the pixel is broadcast over the other's pixels.
std::unique_ptr<Step> multiply_step(const Node& node, const ValueType& a_type, const ValueType& b_type, const Operands& operands,
                                    const Kernels& kernels);
std::unique_ptr<Step> affine_step(const Node& node, const ValueType& source, Buffer in, Buffer out, const Kernels& kernels);
std::unique_ptr<Step> table_step(std::vector<std::uint8_t> table, const Layout& layout, Buffer in, Buffer out,
                                 const Kernels& kernels);
std::unique_ptr<Step> quantize_pixels_step(const Node& node, Buffer out, const Kernels& kernels);
std::unique_ptr<Step> quantize_float_images_step(const Node& node, Buffer out);

}  // namespace paretrim
