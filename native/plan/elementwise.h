// Steps that compute each value from the values at the same place, and the ends of a network: pixels to uint8, uint8 to float.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

// float32 ratio of two scales, as docs/integer-graph.md forms it. Throws corrupt_file where it is not finite.
float ratio(float numerator, float denominator, const Node& node);

Addition addition_of(const Node& node, const ValueType& first, const ValueType& second);
Requantization requantization_of(const Node& node);

std::unique_ptr<Step> add_step(const Addition& by, const Layout& layout, Buffer a, Buffer b, Buffer out, const Kernels& kernels);
// Where b is one pixel and a is not, each channel of a is multiplied by its one value of b.
std::unique_ptr<Step> multiply_step(const Node& node, const ValueType& a_type, const ValueType& b_type, Buffer a, Buffer b,
                                    Buffer out, const Kernels& kernels);
std::unique_ptr<Step> affine_step(const Node& node, const ValueType& source, Buffer in, Buffer out, const Kernels& kernels);
std::unique_ptr<Step> table_step(std::vector<std::uint8_t> table, const Layout& layout, Buffer in, Buffer out,
                                 const Kernels& kernels);
std::unique_ptr<Step> quantize_pixels_step(const Node& node, Buffer out, const Kernels& kernels);
std::unique_ptr<Step> quantize_floats_step(const Node& node, Buffer out);
std::unique_ptr<Step> dequantize_step(const ValueType& source, Buffer in, Buffer out);

}  // namespace paretrim
