// The cost of loading and running a graph, from its structure alone: nothing here needs the tensors' bytes.
#pragma once

#include "graph/graph.h"

namespace paretrim {

// See src/paretrim/trimfile/SPEC.md, "Budget". Doubles, because the numbers of a forged graph may exceed 64 bits.
struct Cost {
  double parts = 0;          // nodes and their inputs
  double tensor_bytes = 0;   // of all tensors, and 16 for every channel of every value
  double live_bytes = 0;     // of the values that are alive at once, at their maximum
  double multiply_adds = 0;  // of one image, as if no weight were 0
};

// The graph must satisfy `check_structure`.
Cost cost_of(const Graph& graph);

}  // namespace paretrim
