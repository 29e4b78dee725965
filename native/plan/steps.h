// Which step computes a node: one row of a table for each operation.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/step.h"

namespace paretrim {

// A node about to become a step.
struct StepRequest {
  const Graph& graph;
  const Node& node;
  const Operands& operands;
  const Kernels& kernels;

  ValueType source(std::size_t which = 0) const { return graph.type_of(node.inputs[which]); }
};

// For every operation but those that the planner joins with others (weighted ones, moves, concat). Throws unsupported_operation
// where the operation has no meaning on the node's grid or on floats.
std::unique_ptr<Step> make_step(const StepRequest& request);

}  // namespace paretrim
