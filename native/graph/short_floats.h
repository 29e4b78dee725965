// 16-bit floats, and weights of float layers that are stored in a type other than float32.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim {

// Converts a float16 or bfloat16 to the bits of the equal float32.
std::uint32_t widened(const std::uint8_t* from, Dtype type);

// Converts back; false if the type cannot represent this float32 exactly.
bool narrow(std::uint32_t bits, Dtype type, std::uint8_t* to);

// Whether this is a float32 layer whose weight is stored in another type: float16, bfloat16, or int8 with scales.
bool has_stored_weight(const Node& node, const ValueType& source);

// Converts such weights to float32, multiplied by their scales if there are any.
void widen_weights(Graph& graph);

}  // namespace paretrim
