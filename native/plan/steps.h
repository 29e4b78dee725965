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

// How the planner goes about an operation: a step of its own; a layer of weights, which takes in what follows it; a move, of
// which neighbours become one; a join, of one move for each input; or a new shape for the same values.
enum class Role : std::uint8_t { step, weighted, move, join, reshape };

Role role_of(Op op);

// As what a weighted layer takes in an operation that follows it: nothing, its addition, or the range its results are clamped to.
enum class Fusion : std::uint8_t { none, addition, range };

Fusion fusion_of(Op op);

// For operations that are a step of their own. Throws unsupported_operation
// where the operation has no meaning on the node's grid or on floats.
std::unique_ptr<Step> make_step(const StepRequest& request);

}  // namespace paretrim
