// The C++ twin of paretrim/graph/checks.py, for integer graphs: files are not believed, whoever checked them before.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include "graph/attributes.h"
#include "graph/counting.h"
#include "graph/functions.h"
#include "graph/graph.h"
#include "graph/shapes.h"
#include "types/error.h"

namespace paretrim {
namespace {

// Scales below are subnormal in float32, where processors may flush to zero.
constexpr double smallest_scale = std::numeric_limits<float>::min();
constexpr std::size_t longest_name = 500;
constexpr std::string_view input_name = "images";

[[noreturn]] void corrupt(const std::string& why) { throw Error(ErrorKind::corrupt_file, why); }
[[noreturn]] void unsupported(const std::string& why) { throw Error(ErrorKind::unsupported_operation, why); }

std::string dtype_text(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
      return "float32";
    case Dtype::uint8:
      return "uint8";
    case Dtype::int8:
      return "int8";
    case Dtype::int32:
      return "int32";
  }
  return "unknown";
}

struct CodePoints {
  std::uint32_t first, last;
};

// Control characters, and those that show nothing or turn the direction of what is around them. As in paretrim/graph/checks.py.
constexpr CodePoints unseen[] = {{0x0, 0x1F},      {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},
                                 {0x180E, 0x180E}, {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},
                                 {0xD800, 0xDFFF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xE0000, 0xE0FFF}};

// 1 to 500 characters of well-formed UTF-8 that can all be seen.
bool printable(std::string_view name) {
  std::size_t characters = 0;
  for (std::size_t index = 0; index < name.size(); ++characters) {
    const auto lead = static_cast<unsigned char>(name[index]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0 || length > name.size() - index) return false;
    std::uint32_t point = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t next = 1; next < length; ++next) {
      const auto byte = static_cast<unsigned char>(name[index + next]);
      if ((byte & 0xC0) != 0x80) return false;
      point = point << 6U | (byte & 0x3FU);
    }
    for (const CodePoints& range : unseen) {
      if (range.first <= point && point <= range.last) return false;
    }
    index += length;
  }
  return characters >= 1 && characters <= longest_name;
}

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
    corrupt("its dtype is '" + dtype_text(type.dtype) + "'; a value is float32 or uint8");
  }
  if (!std::isfinite(type.scale) || !(static_cast<double>(type.scale) >= smallest_scale)) {
    corrupt("its scale is " + std::to_string(type.scale) + "; it must be a positive normal float32");
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
    corrupt("it clamps to " + std::to_string(low) + ".." + std::to_string(high) + "; that must lie in 0..255 and not be empty");
  }
}

void check_types(const Graph& graph, const Node& node, const std::vector<ValueType>& inputs) {
  const bool reads_images = std::find(node.inputs.begin(), node.inputs.end(), 0U) != node.inputs.end();
  if (reads_images && graph.input.takes_pixels() && node.op != Op::quantize) {
    unsupported("pixels are read by quantize alone in an integer graph");
  }
  for (const ValueType& input : inputs) {
    if (input.dtype != inputs[0].dtype) unsupported("it reads float32 and uint8; quantize or dequantize one of them first");
  }
  if (node.op == Op::normalize || node.op == Op::clamp || node.op == Op::dropout) {
    unsupported("it computes in float32, and this runtime in integers; quantize the network first");
  }
  if (node.op == Op::quantize) {
    if (!reads_images) unsupported("quantize reads the images alone in an integer graph");
    if (!node.type.quantized()) corrupt("quantize cannot give " + dtype_text(node.type.dtype));
    return;
  }
  if (!inputs[0].quantized()) {
    // Logits of a convolution are [C, 1, 1] and become [C] by moving nothing.
    if (node.op != Op::flatten) unsupported("it computes in float32, and this runtime in integers; quantize the network first");
    if (node.type.quantized()) unsupported("it makes uint8 of float32; put a quantize between");
    return;
  }
  const bool wants_quantized = node.op != Op::dequantize;
  if (node.type.quantized() != wants_quantized && !facts_of(node.op).weighted) {
    unsupported("it makes " + dtype_text(node.type.dtype) + " of uint8; put a quantize or dequantize between");
  }
  const ValueType& source = inputs[0];
  if (facts_of(node.op).keeps_grid && (node.type.scale != source.scale || node.type.zero_point != source.zero_point)) {
    corrupt("its grid is scale " + std::to_string(node.type.scale) + ", zero point " + std::to_string(node.type.zero_point) +
            "; it keeps that of its input, scale " + std::to_string(source.scale) + ", zero point " +
            std::to_string(source.zero_point));
  }
}

struct Wanted {
  std::string_view name;
  Dtype dtype;
  Shape shape;
  bool may_be_missing = false;
};

std::vector<Wanted> wanted_tensors(const Node& node, const ValueType& source) {
  const std::int64_t channels = node.type.shape[0];
  if (facts_of(node.op).weighted) {
    const Shape& weight = node.tensors.find("weight")->second.shape;
    if (!source.quantized()) return {{"weight", Dtype::float32, weight}, {"bias", Dtype::float32, {channels}, true}};
    return {{"weight", Dtype::int8, weight}, {"weight_scale", Dtype::float32, {channels}}, {"bias", Dtype::int32, {channels}}};
  }
  if (node.op == Op::batch_norm) {
    std::vector<Wanted> wanted;
    const std::vector<std::string_view> integer = {"multiplier", "offset"}, real = {"gamma", "beta", "mean", "variance"};
    for (const std::string_view name : source.quantized() ? integer : real) wanted.push_back({name, Dtype::float32, {channels}});
    return wanted;
  }
  if (node.op == Op::pointwise && source.quantized()) return {{"table", Dtype::uint8, {256}}};
  if (node.op == Op::quantize && source.quantized()) return {{"table", Dtype::uint8, {channels, 256}}};
  return {};
}

void check_bytes(std::string_view name, const Tensor& tensor) {
  const std::int64_t size = bounded_size(tensor.shape);
  if (size > largest_extent || tensor.bytes.size() != static_cast<std::size_t>(size) * bytes_of(tensor.dtype)) {
    corrupt("its " + std::string(name) + " has shape " + text_of(tensor.shape) + " of " + dtype_text(tensor.dtype) + " and " +
            std::to_string(tensor.bytes.size()) + " bytes");
  }
}

// Without an early end, so that the compiler compares several at once.
bool holds_lowest(const std::int8_t* values, std::int64_t count) {
  std::uint8_t least = 255;
  for (std::int64_t i = 0; i < count; ++i) least = std::min(least, static_cast<std::uint8_t>(values[i] + 128));
  return least == 0;
}

void check_weight(const Node& node, const ValueType& source) {
  const Tensor& weight = node.tensors.find("weight")->second;
  const auto* integers = weight.as<std::int8_t>();
  const auto* scales = node.tensors.find("weight_scale")->second.as<float>();
  const auto* biases = node.tensors.find("bias")->second.as<std::int32_t>();
  const std::int64_t outputs = weight.shape[0];
  const std::int64_t depth = weight.size() / outputs;
  const std::int64_t reach = std::max(source.zero_point, 255 - source.zero_point);
  for (std::int64_t output = 0; output < outputs; ++output) {
    const double scale = scales[output];
    const double product = static_cast<double>(source.scale) * scale;
    const double multiplier = product / (node.type.quantized() ? static_cast<double>(node.type.scale) : 1.0);
    const double largest = std::max(product, multiplier);
    if (!(std::min({scale, product, multiplier}) >= smallest_scale) || !(largest <= std::numeric_limits<float>::max())) {
      corrupt("its weight_scale is " + std::to_string(scale) + " in output channel " + std::to_string(output) +
              "; scales and their products must be normal float32 above 0");
    }
    const std::int8_t* const row = integers + output * depth;
    if (holds_lowest(row, depth)) corrupt("its weight holds -128; integer weights lie in -127..127");
    const std::int64_t sum = sum_in_parts(row, depth, [](std::int8_t value) { return std::abs(value); });
    const std::int64_t bound = sum * reach + std::abs(static_cast<std::int64_t>(biases[output]));
    if (bound > std::numeric_limits<std::int32_t>::max()) {
      corrupt("its accumulator can reach " + std::to_string(bound) + ", beyond int32; use smaller weights or a smaller bias");
    }
  }
}

// Types and shapes of all tensors; their bytes need not be there.
void check_tensor_types(const Node& node, const ValueType& source) {
  std::size_t wanted = 0;
  for (const Wanted& one : wanted_tensors(node, source)) {
    const auto found = node.tensors.find(one.name);
    if (found == node.tensors.end() && one.may_be_missing) continue;
    if (found == node.tensors.end()) corrupt("it lacks the tensor '" + std::string(one.name) + "'");
    ++wanted;
    const Tensor& tensor = found->second;
    if (tensor.dtype != one.dtype || tensor.shape != one.shape) {
      corrupt("its " + std::string(one.name) + " is " + dtype_text(tensor.dtype) + " " + text_of(tensor.shape) + "; it must be " +
              dtype_text(one.dtype) + " " + text_of(one.shape));
    }
  }
  if (node.tensors.size() != wanted) {
    corrupt("it has " + std::to_string(node.tensors.size()) + " tensors; it must have " + std::to_string(wanted));
  }
}

// A table is the function that it stands for. One step is left to other mathematics libraries: a last bit of exp can turn a tie.
void check_table(const Node& node, const std::vector<std::uint8_t>& expected) {
  const Tensor& table = node.tensors.find("table")->second;
  int worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(int{table.bytes[i]} - int{expected[i]}));
  if (worst > 1) {
    corrupt("its table differs from the function it stands for by " + std::to_string(worst) +
            " steps; build it with paretrim.graph.functions");
  }
}

// What an operation between grids multiplies by must be finite in float32, and so must the largest sum of an add.
void check_ratios(const Node& node, const std::vector<ValueType>& inputs) {
  const bool rescales = node.op == Op::add || node.op == Op::mul || node.op == Op::concat || node.op == Op::avg_pool ||
                        node.op == Op::adaptive_avg_pool;
  if (!rescales) return;
  float largest = 0, sum = 0;
  float all = 1;
  for (const ValueType& input : inputs) {
    const float ratio = input.scale / node.type.scale;
    largest = std::max(largest, ratio);
    sum += ratio;
    all *= input.scale;
  }
  if (node.op == Op::mul) largest = all / node.type.scale;
  if (node.op == Op::add) largest = std::max(largest, 255.0F * sum);
  if (!std::isfinite(largest)) {
    corrupt("the scales of its inputs leave float32 on its grid of scale " + std::to_string(node.type.scale) +
            "; give it a coarser grid");
  }
}

void check_contents(const Graph& graph, const Node& node, const ValueType& source) {
  for (const auto& [name, tensor] : node.tensors) {
    check_bytes(name, tensor);
    if (tensor.dtype == Dtype::float32 &&
        !std::all_of(tensor.as<float>(), tensor.as<float>() + tensor.size(), [](float v) { return std::isfinite(v); })) {
      corrupt("its " + name + " holds NaN or infinity");
    }
  }
  if (facts_of(node.op).weighted) check_weight(node, source);
  if (node.op == Op::pointwise) check_table(node, pointwise_table(node, source));
  if (node.op == Op::quantize && source.quantized()) check_table(node, pixel_table(graph.input, node.type));
}

std::vector<ValueType> inputs_of(const Graph& graph, const Node& node) {
  std::vector<ValueType> inputs;
  for (const std::uint32_t value : node.inputs) inputs.push_back(graph.type_of(value));
  return inputs;
}

void check_integer_node(const Graph& graph, const Node& node) {
  const std::vector<ValueType> inputs = inputs_of(graph, node);
  check_types(graph, node, inputs);
  check_contents(graph, node, inputs[0]);
}

void check_node_structure(const Graph& graph, const Node& node) {
  check_grid(node.type);
  check_attributes(node);
  if (node.op == Op::pointwise) check_function(node);
  const std::vector<ValueType> inputs = inputs_of(graph, node);
  std::vector<Shape> shapes;
  for (const ValueType& input : inputs) shapes.push_back(input.shape);
  const Shape shape = infer_shape(node, shapes);
  if (shape != node.type.shape) {
    corrupt("its type has shape " + text_of(node.type.shape) + " and its operation computes " + text_of(shape));
  }
  check_tensor_types(node, inputs[0]);
  if (node.type.quantized()) {
    check_clamp(node);
    check_ratios(node, inputs);
  } else if (node.attributes.count("lo") + node.attributes.count("hi") > 0) {
    unsupported("lo and hi clamp quantized values and the result is float32");
  }
}

void check_names(const Graph& graph) {
  std::set<std::string_view> known = {input_name};
  for (std::size_t index = 0; index < graph.nodes.size(); ++index) {
    const Node& node = graph.nodes[index];
    if (!printable(node.name)) corrupt("a node name must be 1 to " + std::to_string(longest_name) + " printable characters");
    if (!known.insert(node.name).second) unsupported("two nodes are named '" + node.name + "'; names must be unique");
    for (const std::uint32_t value : node.inputs) {
      if (value > index) unsupported("node '" + node.name + "' reads a value that no earlier node produces");
    }
  }
}

// Adds the node's name to what its check throws.
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
  check_nodes(graph, check_integer_node);
}

void check_structure(const Graph& graph) {
  check_input(graph.input);
  check_names(graph);
  check_nodes(graph, check_node_structure);
  if (graph.output > graph.nodes.size()) unsupported("the output is produced by no node");
  const ValueType logits = graph.type_of(graph.output);
  if (graph.output == 0 || logits.quantized() || logits.shape.size() != 1) {
    corrupt("the output is " + dtype_text(logits.dtype) + " " + text_of(logits.shape) + "; logits are float32 (classes,)");
  }
  if (!graph.classes.empty() && graph.classes.size() != static_cast<std::size_t>(logits.shape[0])) {
    corrupt(std::to_string(graph.classes.size()) + " class names were given for " + std::to_string(logits.shape[0]) +
            " logits; leave them out or give one each");
  }
}

}  // namespace paretrim
