// Infers the shape of an operation's result. Counterpart of paretrim/graph/shapes.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

using Shape = std::vector<std::int64_t>;

std::string text_of(const Shape& shape);  // "(3, 32, 32)"

// Product of extents, or largest_extent + 1 if it would exceed largest_extent or an extent is negative.
std::int64_t bounded_size(const Shape& shape);

// Shape of a node's result, given the shapes of its inputs. check_attributes must have accepted the node. Throws
// unsupported_operation if a rule of the operation is broken.
Shape infer_shape(const Node& node, const std::vector<Shape>& inputs);

}  // namespace paretrim
