// Converts random integer graphs to float graphs.
#include <cstring>

#include "graph/short_floats.h"
#include "tests/random_graph.h"

namespace paretrim::test {
namespace {

Tensor floats(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  Tensor result{Dtype::float32, std::move(shape), TensorBytes(values.size() * sizeof(float))};
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

// Truncates float32 values to a 16-bit type.
Tensor short_floats(const Tensor& weight, Dtype type) {
  Tensor result{type, weight.shape, TensorBytes(static_cast<std::size_t>(weight.size()) * 2)};
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, weight.bytes.data() + 4 * i, sizeof bits);
    narrow(bits, type, result.bytes.data() + 2 * i);
  }
  return result;
}

// Converts an int8 layer to a float layer. `format` selects the type that stores the weight.
void convert_layer(Node& node, float source_scale, std::uint64_t format) {
  const Tensor weight = node.tensors["weight"], scale = node.tensors["weight_scale"], bias = node.tensors["bias"];
  std::vector<float> weights, biases;
  const std::int64_t outputs = weight.shape[0];
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    weights.push_back(static_cast<float>(weight.as<std::int8_t>()[i]) * scale.as<float>()[i / (weight.size() / outputs)]);
  }
  for (std::int64_t o = 0; o < outputs; ++o) {
    biases.push_back(static_cast<float>(bias.as<std::int32_t>()[o]) * scale.as<float>()[o] * source_scale);
  }
  node.tensors.clear();
  const Tensor real = floats(weight.shape, weights);
  node.tensors["weight"] = format == 1   ? short_floats(real, Dtype::float16)
                           : format == 2 ? short_floats(real, Dtype::bfloat16)
                           : format == 3 ? weight
                                         : real;
  if (format == 3) node.tensors["weight_scale"] = scale;
  node.tensors["bias"] = floats(bias.shape, biases);
}

void convert_batch_norm(Node& node) {
  Tensor factor = node.tensors["multiplier"], shift = node.tensors["offset"];
  const auto channels = static_cast<std::size_t>(factor.size());
  const Tensor ones = floats(factor.shape, std::vector<float>(channels, 1.0F));
  node.attributes["epsilon"] = 0.001;
  node.tensors = {{"gamma", factor}, {"beta", shift}, {"mean", ones}, {"variance", ones}};
}

}  // namespace

Graph random_float_graph(std::uint64_t seed) {
  Graph graph = random_graph(seed);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    const float source_scale = node.inputs[0] == 0 ? 1.0F : graph.nodes[node.inputs[0] - 1].type.scale;
    node.attributes.erase("lo");
    node.attributes.erase("hi");
    if (node.op == Op::quantize) {
      node.op = graph.input.takes_pixels() ? Op::normalize : Op::relu;
      node.tensors.clear();
    } else if (node.op == Op::dequantize) {
      node.op = Op::clamp;
      node.attributes["maximum"] = 2.5;
    } else if (facts_of(node.op).weighted()) {
      convert_layer(node, source_scale, (seed + i) % 5);
    } else if (node.op == Op::batch_norm) {
      convert_batch_norm(node);
    } else if (node.op == Op::pointwise) {
      node.tensors.clear();
    }
  }
  for (Node& node : graph.nodes) {
    node.type.dtype = Dtype::float32;
    node.type.scale = 1.0F;
    node.type.zero_point = 0;
  }
  return graph;
}

}  // namespace paretrim::test
