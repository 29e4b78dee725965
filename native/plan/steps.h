// What the planner does with a node, and which step computes it: rows of two tables.
#pragma once

#include <cstdint>
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

// How the planner treats an operation: as a step of its own; as a weighted layer, which absorbs what follows it; as a move, which
// is merged with its neighbours; as a join, one move for each input; or as a new shape for the same values.
enum class Role : std::uint8_t { step, weighted, move, join, reshape };

Role role_of(Op op);

// How a weighted layer absorbs the operation after it: not at all, as its addition, or as the range its results are clamped to.
enum class Fusion : std::uint8_t { none, addition, range };

Fusion fusion_of(Op op);

// For operations that are a step of their own. Throws unsupported_operation
// where the operation has no meaning on the node's grid or on floats.
std::unique_ptr<Step> make_step(const StepRequest& request);

}  // namespace paretrim
