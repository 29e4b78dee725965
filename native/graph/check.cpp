// Checks of a whole graph, the counterpart of paretrim/graph/checks.py. Files are not trusted, even if they were checked before.
#include <algorithm>
#include <cmath>
#include <set>

#include "graph/attributes.h"
#include "graph/functions.h"
#include "graph/graph.h"
#include "graph/names.h"
#include "graph/shapes.h"
#include "graph/tensors.h"
#include "types/error.h"

namespace paretrim {
namespace {

constexpr std::string_view input_name = "images";

[[noreturn]] void corrupt(const std::string& why) { throw Error(ErrorKind::corrupt_file, why); }
[[noreturn]] void unsupported(const std::string& why) { throw Error(ErrorKind::unsupported_operation, why); }

void check_input(const InputSpec& spec) {
  const auto extent_is_wrong = [](std::int64_t extent) { return extent < 1; };
  if (spec.shape.size() != 3 || std::any_of(spec.shape.begin(), spec.shape.end(), extent_is_wrong) ||
      bounded_size(spec.shape) > largest_extent) {
    corrupt("the input has shape " + text_of(spec.shape) + "; it must be (C, H, W) of fewer than 2**31 elements");
  }
  const auto channels = static_cast<std::size_t>(spec.shape[0]);
  const bool none = spec.mean.empty() && spec.std.empty();
  if (!none && (spec.mean.size() != channels || spec.std.size() != channels)) {
    corrupt("the input of shape " + text_of(spec.shape) + " has " + std::to_string(spec.mean.size()) + " means and " +
            std::to_string(spec.std.size()) + " stds; give one number per channel or neither");
  }
  const bool finite = std::all_of(spec.mean.begin(), spec.mean.end(), [](double value) { return std::isfinite(value); }) &&
                      std::all_of(spec.std.begin(), spec.std.end(), [](double v) { return std::isfinite(v) && v > 0; });
  if (!finite) corrupt("the mean and std of the input must be finite and std above 0");
}

void check_grid(const ValueType& type) {
  if (type.dtype != Dtype::float32 && type.dtype != Dtype::uint8) {
    corrupt("its dtype is '" + text_of(type.dtype) + "'; a value is float32 or uint8");
  }
  if (!std::isfinite(type.scale) || !(static_cast<double>(type.scale) >= smallest_scale)) {
    corrupt("its scale is " + digits_of(type.scale) + "; it must be a positive normal float32");
  }
  if (type.zero_point < 0 || type.zero_point > 255) {
    corrupt("its zero point is " + std::to_string(type.zero_point) + "; it must lie in 0..255");
  }
}

void check_clamp(const Node& node) {
  const auto& rules = attribute_rules(node.op);
  if (std::none_of(rules.begin(), rules.end(), [](const AttributeRule& rule) { return rule.name == "lo"; })) return;
  const std::int64_t low = integer(node, "lo");
  const std::int64_t high = integer(node, "hi");
  if (low > high || high > 255) {
    corrupt("it clamps to " + std::to_string(low) + ".." + std::to_string(high) +
            "; the range must lie in 0..255 and not be empty");
  }
}

void check_types(const Graph& graph, const Node& node, const std::vector<ValueType>& inputs) {
  const OpFacts& facts = facts_of(node.op);
  const bool reads_images = std::find(node.inputs.begin(), node.inputs.end(), 0U) != node.inputs.end();
  const bool reads_pixels = reads_images && graph.input.takes_pixels();
  const bool enters = facts.grid == GridRule::enters, leaves = facts.grid == GridRule::leaves;
  if (reads_pixels != (facts.grid == GridRule::pixels) && !(reads_pixels && enters)) {
    unsupported("only normalize and quantize read pixels, and normalize reads nothing else");
  }
  for (const ValueType& input : inputs) {
    if (input.dtype != inputs[0].dtype) unsupported("it reads float32 and uint8; quantize or dequantize one of them first");
  }
  if (!facts.ships) unsupported(std::string(facts.name) + " is only for training; fold the graph first");
  if (reads_pixels || enters) {
    if (node.type.quantized() != enters) {
      corrupt(std::string(facts.name) + " cannot give " + text_of(node.type.dtype) + "; it gives " +
              (enters ? "uint8" : "float32"));
    }
    if (inputs[0].quantized() && !reads_pixels) {
      unsupported("it converts uint8 to uint8; use a pointwise 'requantize' to change the grid");
    }
    return;
  }
  if (!inputs[0].quantized()) {
    if (leaves || node.type.quantized()) {
      unsupported("it converts float32 to " + text_of(node.type.dtype) + "; insert a quantize");
    }
    return;
  }
  if (facts.grid == GridRule::float_only) {
    unsupported(std::string(facts.name) + " is only for float values; use lo and hi of the node before it, or a pointwise table");
  }
  if (node.type.quantized() == leaves && !facts.weighted()) {
    unsupported("it converts uint8 to " + text_of(node.type.dtype) + "; insert a quantize or dequantize");
  }
  const ValueType& source = inputs[0];
  if (facts.grid == GridRule::keeps && (node.type.scale != source.scale || node.type.zero_point != source.zero_point)) {
    corrupt("its grid is scale " + digits_of(node.type.scale) + ", zero point " + std::to_string(node.type.zero_point) +
            "; it keeps that of its input, scale " + digits_of(source.scale) + ", zero point " +
            std::to_string(source.zero_point));
  }
}

// All multipliers of a requantization must be finite in float32, and so must the largest sum of an add.
void check_ratios(const Node& node, const std::vector<ValueType>& inputs) {
  const Rescaling rescaling = facts_of(node.op).rescaling;
  if (rescaling == Rescaling::none) return;
  float largest = 0, sum = 0;
  float all = 1;
  for (const ValueType& input : inputs) {
    const float ratio = input.scale / node.type.scale;
    largest = std::max(largest, ratio);
    sum += ratio;
    all *= input.scale;
  }
  if (rescaling == Rescaling::product) largest = all / node.type.scale;
  if (rescaling == Rescaling::sum) largest = std::max(largest, 255.0F * sum);
  if (!std::isfinite(largest)) {
    corrupt("the scales of its inputs overflow float32 on its grid of scale " + digits_of(node.type.scale) +
            "; give it a coarser grid");
  }
}

std::vector<ValueType> inputs_of(const Graph& graph, const Node& node) {
  std::vector<ValueType> inputs;
  for (const std::uint32_t value : node.inputs) inputs.push_back(graph.type_of(value));
  return inputs;
}

void check_node_contents(const Graph& graph, const Node& node) {
  const std::vector<ValueType> inputs = inputs_of(graph, node);
  check_types(graph, node, inputs);
  check_tensor_contents(graph, node, inputs[0]);
}

void check_node_structure(const Graph& graph, const Node& node) {
  check_grid(node.type);
  check_attributes(node);
  if (node.attributes.count("function") > 0) check_function(node);
  const std::vector<ValueType> inputs = inputs_of(graph, node);
  std::vector<Shape> shapes;
  for (const ValueType& input : inputs) shapes.push_back(input.shape);
  const Shape shape = infer_shape(node, shapes);
  if (shape != node.type.shape) {
    corrupt("its type has shape " + text_of(node.type.shape) + " and its operation computes " + text_of(shape) +
            "; give it that shape");
  }
  check_tensor_types(node, inputs[0]);
  if (node.type.quantized()) {
    check_clamp(node);
    check_ratios(node, inputs);
  } else if (node.attributes.count("lo") + node.attributes.count("hi") > 0) {
    unsupported("lo and hi clamp quantized values and the result is float32; use clamp or relu");
  }
}

void check_names(const Graph& graph) {
  std::set<std::string_view> known = {input_name};
  for (std::size_t index = 0; index < graph.nodes.size(); ++index) {
    const Node& node = graph.nodes[index];
    if (!printable(node.name)) corrupt("a node name must be 1 to " + std::to_string(longest_name) + " printable characters");
    if (!known.insert(node.name).second) unsupported("two nodes are named '" + node.name + "'; names must be unique");
    for (const std::uint32_t value : node.inputs) {
      if (value > index) unsupported("node '" + node.name + "' reads a value that no earlier node produces; put that node first");
    }
  }
}

void check_outputs(const Graph& graph) {
  if (graph.outputs.empty()) unsupported("the network has no outputs; name at least one value that it returns");
  std::set<std::uint32_t> seen;
  for (const std::uint32_t output : graph.outputs) {
    if (output > graph.nodes.size()) unsupported("the output is produced by no node; name a node of the graph");
    const ValueType type = graph.type_of(output);
    if (output == 0 || type.quantized()) {
      corrupt("the output is " + text_of(type.dtype) + " " + text_of(type.shape) + "; outputs are float32 values of nodes");
    }
    if (!seen.insert(output).second) corrupt("the output '" + graph.nodes[output - 1].name + "' is named twice; name it once");
  }
  if (graph.classes.empty()) return;
  if (graph.outputs.size() != 1) {
    corrupt("class names were given for " + std::to_string(graph.outputs.size()) + " outputs; leave them out");
  }
  const std::vector<std::int64_t> shape = graph.type_of(graph.outputs[0]).shape;
  if (graph.classes.size() != static_cast<std::size_t>(shape[0])) {
    corrupt(std::to_string(graph.classes.size()) + " class names were given for " + std::to_string(shape[0]) +
            (shape.size() == 1 ? " logits" : " channels of a map") + "; leave them out or give one each");
  }
}

// Runs a check on every node and adds the node's name to its errors.
template <typename Check>
void check_nodes(const Graph& graph, const Check& check) {
  for (const Node& node : graph.nodes) {
    try {
      check(graph, node);
    } catch (const Error& error) {
      const std::string place = "node '" + node.name + "' (layer '" + node.layer + "', " + std::string(name_of(node.op)) + "): ";
      throw Error(error.kind, place + error.what());
    }
  }
}

}  // namespace

void validate(const Graph& graph) {
  check_structure(graph);
  check_nodes(graph, check_node_contents);
}

void check_structure(const Graph& graph) {
  check_input(graph.input);
  check_names(graph);
  check_nodes(graph, check_node_structure);
  check_outputs(graph);
}

}  // namespace paretrim
