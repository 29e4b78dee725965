// The checks of a node's tensors.
#pragma once

#include <limits>

#include "graph/graph.h"

namespace paretrim {

// Scales below are subnormal in float32, where processors may flush to zero.
inline constexpr double smallest_scale = std::numeric_limits<float>::min();

// Types and shapes of all tensors; their bytes need not be there. `source` is the type of the first input.
void check_tensor_types(const Node& node, const ValueType& source);

// Their contents, for a node of an integer graph whose types are right.
void check_tensor_contents(const Graph& graph, const Node& node, const ValueType& source);

}  // namespace paretrim
