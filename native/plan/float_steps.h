// Steps on float32 values that have no weights, and the ways into and out of them.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/step.h"

namespace paretrim {

// The operation of a node that reads float32, writes it, or both; but for weighted ones and those that move values.
std::unique_ptr<Step> float_step(const Graph& graph, const Node& node, const Operands& operands);

// What a relu or a clamp of float32 leaves.
struct Range {
  float low;
  float high;
};
Range range_of(const Node& node);

// The caller's float32 images become planes, and planes the numbers one behind the other that a caller wants.
std::unique_ptr<Step> load_images_step(const ValueType& type, Buffer out);
std::unique_ptr<Step> store_map_step(const ValueType& type, Buffer in, Buffer out);

}  // namespace paretrim
