// The cost of loading and running a graph, computed from its structure without the contents of tensors.
#pragma once

#include "graph/graph.h"

namespace paretrim {

// See src/paretrim/trimfile/SPEC.md, "Budget". Doubles, because a forged graph may exceed 64-bit integers.
struct Cost {
  double parts = 0;            // nodes and their inputs
  double tensor_elements = 0;  // of weights and tables
  double tensor_bytes = 0;     // all tensors, plus 16 for each channel of each value
  double live_bytes = 0;       // peak size of the values that are alive at once
  double multiply_adds = 0;    // for one image, including those on zero weights
};

// The graph must satisfy `check_structure`.
Cost cost_of(const Graph& graph);

}  // namespace paretrim
