// Checks of a node's tensors.
#pragma once

#include <limits>

#include "graph/graph.h"

namespace paretrim {

// Smaller scales are subnormal in float32, and processors may flush them to zero.
inline constexpr double smallest_scale = std::numeric_limits<float>::min();

// Checks the types and shapes of all tensors, without their contents. `source` is the type of the first input.
void check_tensor_types(const Node& node, const ValueType& source);

// Checks the contents of all tensors, given that their types are right.
void check_tensor_contents(const Graph& graph, const Node& node, const ValueType& source);

}  // namespace paretrim
