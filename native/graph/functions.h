// Scalar functions and their 256-entry lookup tables. Counterpart of paretrim/graph/functions.py.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

// Throws unsupported_operation if the node's function is unknown, lacks its constant or takes none.
void check_function(const Node& node);

struct FunctionName {
  std::string_view name;
  bool takes_constant;
};
// The functions that are plain arithmetic: they have the same bits on every machine.
std::vector<FunctionName> exact_functions();

// The float64 function of a `pointwise` node that check_function accepted.
struct PointwiseFunction {
  double (*of)(double x, double constant);
  double constant;
  double operator()(double x) const { return of(x, constant); }
};
PointwiseFunction function_of(const Node& node);

// float32 [C, 256]: normalised pixels.
std::vector<float> pixel_values(const InputSpec& input);

// uint8 [256] of a `pointwise` node that check_function accepted.
std::vector<std::uint8_t> pointwise_table(const Node& node, const ValueType& source);

// uint8 [C, 256]: pixels normalised and rounded to the grid of `type`.
std::vector<std::uint8_t> pixel_table(const InputSpec& input, const ValueType& type);

}  // namespace paretrim
