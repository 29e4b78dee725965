#include "graph/cost.h"

#include <algorithm>

#include "graph/attributes.h"
#include "graph/short_floats.h"

namespace paretrim {
namespace {

constexpr double bytes_per_channel = 16;

double product(const std::vector<std::int64_t>& shape) {
  double size = 1;
  for (const std::int64_t extent : shape) size *= static_cast<double>(extent);
  return size;
}

std::int64_t channels_of(const ValueType& type) { return type.shape.empty() ? 1 : type.shape[0]; }

// Size of a value with channels rounded up to a multiple of four.
double bytes_of_value(const ValueType& type) {
  const auto channels = static_cast<double>(std::max<std::int64_t>(channels_of(type), 1));
  const auto whole = static_cast<double>((channels_of(type) + 3) / 4 * 4);
  return product(type.shape) / channels * whole * static_cast<double>(bytes_of(type.dtype));
}

// The structure of a file may not be checked yet, so a tensor or input may be missing. Such a node counts as one multiply-add per
// element of its result.
double multiply_adds_of(const Graph& graph, const Node& node) {
  const double elements = product(node.type.shape);
  const auto source = [&] { return node.inputs.empty() ? node.type.shape : graph.type_of(node.inputs[0]).shape; };
  switch (facts_of(node.op).work) {
    case Work::result:
      return elements;
    case Work::weight: {
      const auto weight = node.tensors.find("weight");
      if (weight == node.tensors.end()) return elements;
      return product(weight->second.shape) * elements / static_cast<double>(std::max<std::int64_t>(channels_of(node.type), 1));
    }
    case Work::window: {
      const Pair window = pair(node, "window");
      return elements * static_cast<double>(window.vertical) * static_cast<double>(window.horizontal);
    }
    case Work::input:
      return std::max(elements, product(source()));
    case Work::depth:
      return source().size() == 3 && !node.inputs.empty() ? elements * static_cast<double>(source()[2]) : elements;
  }
  return elements;
}

}  // namespace

Cost cost_of(const Graph& graph) {
  Cost cost;
  std::vector<std::size_t> last_reader(graph.nodes.size() + 1, 0);  // counted from 1; 0 for none
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const std::uint32_t value : graph.nodes[i].inputs) last_reader[value] = i + 1;
  }
  for (const std::uint32_t output : graph.outputs) last_reader[output] = graph.nodes.size() + 1;
  double live = bytes_of_value(graph.type_of(0));
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    cost.parts += 1 + static_cast<double>(node.inputs.size());
    for (const auto& [name, tensor] : node.tensors) {
      const bool is_widened = name == "weight" && !node.inputs.empty() && has_stored_weight(node, graph.type_of(node.inputs[0]));
      const Dtype held = is_widened ? Dtype::float32 : tensor.dtype;
      cost.tensor_elements += product(tensor.shape);
      cost.tensor_bytes += product(tensor.shape) * static_cast<double>(bytes_of(held));
    }
    cost.tensor_bytes += bytes_per_channel * static_cast<double>(channels_of(node.type));
    cost.multiply_adds += multiply_adds_of(graph, node);
    live += bytes_of_value(node.type);
    cost.live_bytes = std::max(cost.live_bytes, live);
    for (const std::uint32_t value : node.inputs) {
      if (last_reader[value] != i + 1) continue;
      live -= bytes_of_value(graph.type_of(value));
      last_reader[value] = 0;  // an input may occur twice
    }
    if (last_reader[i + 1] == 0) live -= bytes_of_value(node.type);
  }
  return cost;
}

}  // namespace paretrim
