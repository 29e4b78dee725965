#include "trim/versions.h"

#include <algorithm>

#include "graph/short_floats.h"

namespace paretrim::trim {

std::uint64_t version_of(const Graph& graph) {
  const bool stored = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    const bool halves = std::any_of(node.tensors.begin(), node.tensors.end(), [](const auto& tensor) {
      return tensor.second.dtype == Dtype::float16 || tensor.second.dtype == Dtype::bfloat16;
    });
    return halves || (!node.inputs.empty() && has_stored_weight(node, graph.type_of(node.inputs[0])));
  });
  if (stored) return stored_weights;
  const bool vector = graph.outputs.size() == 1 && graph.type_of(graph.outputs[0]).shape.size() == 1;
  return vector ? one_vector : any_outputs;
}

}  // namespace paretrim::trim
