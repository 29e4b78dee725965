// The C++ twin of paretrim/graph/functions.py: scalar functions and the 256-entry tables that replace them.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

// Throws unsupported_operation: the node's function is unknown, lacks its constant or has one that it does not take.
void check_function(const Node& node);

// The function of a `pointwise` node that check_function accepted, in float64.
struct PointwiseFunction {
  double (*of)(double x, double constant);
  double constant;
  double operator()(double x) const { return of(x, constant); }
};
PointwiseFunction function_of(const Node& node);

// float32 [C, 256]: pixels normalised.
std::vector<float> pixel_values(const InputSpec& input);

// uint8 [256] of a `pointwise` node that check_function accepted.
std::vector<std::uint8_t> pointwise_table(const Node& node, const ValueType& source);

// uint8 [C, 256]: pixels normalised and rounded onto the grid of `type`.
std::vector<std::uint8_t> pixel_table(const InputSpec& input, const ValueType& type);

}  // namespace paretrim
