#include "graph/tensors.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "graph/attributes.h"
#include "graph/counting.h"
#include "graph/functions.h"
#include "graph/shapes.h"
#include "graph/short_floats.h"
#include "types/error.h"

namespace paretrim {
namespace {

[[noreturn]] void corrupt(const std::string& why) { throw Error(ErrorKind::corrupt_file, why); }

struct ExpectedTensor {
  std::string_view name;
  Dtype dtype;
  Shape shape;
  bool may_be_missing = false;
};

enum class Form : std::uint8_t { weight, channels, table, tables };

struct TensorRule {
  Op op;
  bool quantized;  // whether the rule is for nodes with a quantized input
  std::string_view name;
  Dtype dtype;
  Form form;
  bool optional;
};

constexpr TensorRule all_rules[] = {
#define PARETRIM_TENSOR(operation, quantized, name, dtype, form, optional) \
  {Op::operation, quantized, #name, Dtype::dtype, Form::form, optional},
#include "graph/operations.inc"
};

Shape shape_in(const Node& node, Form form) {
  const std::int64_t channels = node.type.shape[0];
  switch (form) {
    case Form::weight:
      return node.tensors.find("weight")->second.shape;  // the shape rule has checked it
    case Form::channels:
      return {channels};
    case Form::table:
      return {256};
    case Form::tables:
      return {channels, 256};
  }
  return {};
}

std::vector<ExpectedTensor> wanted_tensors(const Node& node, const ValueType& source) {
  std::vector<ExpectedTensor> wanted;
  for (const TensorRule& rule : all_rules) {
    if (rule.op != node.op || rule.quantized != source.quantized()) continue;
    ExpectedTensor one = {rule.name, rule.dtype, shape_in(node, rule.form), rule.optional};
    if (has_stored_weight(node, source)) {
      const Dtype type = node.tensors.find("weight")->second.dtype;
      if (one.name == "weight" && (is_float(type) || type == Dtype::int8)) one.dtype = type;
      if (one.name == "weight_scale") one.may_be_missing = type != Dtype::int8;
    } else if (!source.quantized() && one.name == "weight_scale") {
      continue;  // float32 weights have none
    }
    wanted.push_back(one);
  }
  return wanted;
}

void check_bytes(std::string_view name, const Tensor& tensor) {
  const std::int64_t size = bounded_size(tensor.shape);
  if (size > largest_extent || tensor.bytes.size() != static_cast<std::size_t>(size) * bytes_of(tensor.dtype)) {
    corrupt("its " + std::string(name) + " has shape " + text_of(tensor.shape) + " of " + text_of(tensor.dtype) + " and " +
            std::to_string(tensor.bytes.size()) + " bytes; give it as many bytes as its shape has");
  }
}

bool all_finite(const Tensor& tensor) {
  if (tensor.dtype == Dtype::float32) {
    const std::uint8_t* const bytes = tensor.bytes.data();
    const auto count = static_cast<std::size_t>(tensor.size());
    std::uint32_t most = 0;  // no early exit, so that the compiler vectorises the loop
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, bytes + sizeof bits * i, sizeof bits);
      most = std::max(most, bits & 0x7F800000U);
    }
    return most != 0x7F800000U;
  }
  const auto* const end = tensor.bytes.data() + tensor.bytes.size();
  for (const std::uint8_t* at = tensor.bytes.data(); at < end; at += 2) {
    if ((widened(at, tensor.dtype) >> 23 & 255) == 255) return false;
  }
  return true;
}

// Whether any value is -128. No early exit, so that the compiler vectorises the loop.
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
      corrupt("its weight_scale is " + digits_of(scale) + " in output channel " + std::to_string(output) +
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

// Checks the weight of a float layer that is not stored as float32: the values it represents must be finite.
void check_stored_weight(const Node& node) {
  const Tensor& weight = node.tensors.find("weight")->second;
  if (weight.dtype == Dtype::int8 && holds_lowest(weight.as<std::int8_t>(), weight.size())) {
    corrupt("its weight holds -128; integer weights lie in -127..127");
  }
  const auto scales = node.tensors.find("weight_scale");
  if (scales == node.tensors.end()) return;
  const float* values = scales->second.as<float>();
  const bool normal = std::all_of(values, values + scales->second.size(), [](float scale) { return scale >= smallest_scale; });
  if (!normal) corrupt("its weight_scale must be normal float32 above 0");
  Graph alone;
  alone.nodes = {node};
  alone.nodes[0].inputs = {0};
  widen_weights(alone);
  if (!all_finite(alone.nodes[0].tensors.find("weight")->second))
    corrupt("its weight times its weight_scale overflows float32; use smaller scales");
}

void check_variance(const Node& node) {
  const Tensor& variance = node.tensors.find("variance")->second;
  const std::optional<double> epsilon = number(node, "epsilon");
  const float* values = variance.as<float>();
  if (!epsilon || !(*std::min_element(values, values + variance.size()) + *epsilon > 0)) {
    corrupt("variance + epsilon must be above 0 in every channel; give epsilon, or a larger one");
  }
}

// A table must match its function. One step of difference is allowed, because math libraries differ in the last bit, which can
// decide a tie.
void check_table(const Node& node, const std::vector<std::uint8_t>& expected) {
  const Tensor& table = node.tensors.find("table")->second;
  int worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(int{table.bytes[i]} - int{expected[i]}));
  if (worst > 1) {
    corrupt("its table differs from its function by " + std::to_string(worst) + " steps; build it with paretrim.graph.functions");
  }
}

}  // namespace

void check_tensor_types(const Node& node, const ValueType& source) {
  std::size_t wanted = 0;
  for (const ExpectedTensor& one : wanted_tensors(node, source)) {
    const auto found = node.tensors.find(one.name);
    if (found == node.tensors.end() && one.may_be_missing) continue;
    if (found == node.tensors.end()) corrupt("it lacks the tensor '" + std::string(one.name) + "'; add it");
    ++wanted;
    const Tensor& tensor = found->second;
    if (tensor.dtype != one.dtype || tensor.shape != one.shape) {
      corrupt("its " + std::string(one.name) + " is " + text_of(tensor.dtype) + " " + text_of(tensor.shape) + "; it must be " +
              text_of(one.dtype) + " " + text_of(one.shape));
    }
  }
  if (node.tensors.size() != wanted) {
    corrupt("it has " + std::to_string(node.tensors.size()) + " tensors; it must have " + std::to_string(wanted));
  }
}

void check_tensor_contents(const Graph& graph, const Node& node, const ValueType& source) {
  for (const auto& [name, tensor] : node.tensors) {
    check_bytes(name, tensor);
    if (is_float(tensor.dtype) && !all_finite(tensor)) corrupt("its " + name + " holds NaN or infinity; use finite numbers");
  }
  if (has_stored_weight(node, source)) check_stored_weight(node);
  if (node.tensors.count("variance") > 0) check_variance(node);
  if (!source.quantized()) return;
  if (facts_of(node.op).weighted()) check_weight(node, source);
  if (node.tensors.count("table") == 0) return;
  check_table(node,
              facts_of(node.op).grid == GridRule::enters ? pixel_table(graph.input, node.type) : pointwise_table(node, source));
}

}  // namespace paretrim
