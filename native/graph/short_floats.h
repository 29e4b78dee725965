// Floats of 16 bits, and weights of float layers that are stored in a type other than float32.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim {

// The bits of the float32 that equals a float16 or bfloat16.
std::uint32_t widened(const std::uint8_t* from, Dtype type);

// The inverse; false if the type cannot hold this float32.
bool narrow(std::uint32_t bits, Dtype type, std::uint8_t* to);

// Whether this is a layer on float32 whose weight is stored as another type: float16, bfloat16, or int8 with scales.
bool has_stored_weight(const Node& node, const ValueType& source);

// Converts such weights to float32, each times its scale if there are scales.
void widen_weights(Graph& graph);

}  // namespace paretrim
