// How the planner treats each operation, and which step computes it.
#pragma once

#include <cstdint>
#include <memory>

#include "graph/graph.h"
#include "plan/step.h"

namespace paretrim {

// A node that needs a step, with all that the step depends on.
struct StepRequest {
  const Graph& graph;
  const Node& node;
  const Operands& operands;
  const Kernels& kernels;

  ValueType source(std::size_t which = 0) const { return graph.type_of(node.inputs[which]); }
};

// How the planner treats an operation.
enum class Role : std::uint8_t {
  step,      // a separate step
  weighted,  // a layer with weights, into which the following operations are fused
  move,      // moves values; merged with adjacent moves
  join,      // one move for each input
  reshape    // a new shape for the same values
};

Role role_of(Op op);

// How an operation can be fused into the weighted layer before it: not at all, as an addition, or as a clamp of the results.
enum class Fusion : std::uint8_t { none, addition, range };

Fusion fusion_of(Op op);

// The range to which an operation with Fusion::range clamps float32 values.
struct Range {
  float low;
  float high;
};
Range range_of(const Node& node);

// The step for operations with Role::step, and for flatten of maps. Throws unsupported_operation if the operation is not defined
// for the node's types.
std::unique_ptr<Step> make_step(const StepRequest& request);

}  // namespace paretrim
