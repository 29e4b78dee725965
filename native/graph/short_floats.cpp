#include "graph/short_floats.h"

#include <cstring>
#include <utility>

namespace paretrim {
namespace {

constexpr std::uint32_t exponent_bias = 127 - 15;  // difference between float32 and float16

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

std::uint32_t widened_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half} >> 15 << 31, exponent = half >> 10 & 31U, mantissa = half & 0x3ffU;
  if (exponent == 31) return sign | 0xffU << 23 | mantissa << 13;
  if (exponent == 0) return sign | bits_of(static_cast<float>(mantissa) * 0x1p-24F);
  return sign | (exponent + exponent_bias) << 23 | mantissa << 13;
}

// Truncates a float32 to float16, without rounding.
std::uint16_t truncated_to_half(std::uint32_t bits) {
  const std::uint32_t sign = bits >> 31 << 15, exponent = bits >> 23 & 255, mantissa = bits & 0x7fffff;
  if (exponent == 255) return static_cast<std::uint16_t>(sign | 31U << 10 | mantissa >> 13);
  if (exponent > exponent_bias) {
    return static_cast<std::uint16_t>(sign | ((exponent - exponent_bias) << 10 & 0x7c00U) | mantissa >> 13);
  }
  const std::uint32_t shift = exponent_bias + 14 - exponent;
  return static_cast<std::uint16_t>(sign | (shift > 23 ? 0 : (mantissa | 1U << 23) >> shift));
}

// One element as float32, without its scale.
float element(const Tensor& tensor, std::int64_t index) {
  if (tensor.dtype == Dtype::int8) return static_cast<float>(tensor.as<std::int8_t>()[index]);
  const std::uint32_t bits = widened(tensor.bytes.data() + 2 * index, tensor.dtype);
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

std::uint32_t widened(const std::uint8_t* from, Dtype type) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return type == Dtype::bfloat16 ? std::uint32_t{bits} << 16 : widened_half(bits);
}

bool narrow(std::uint32_t bits, Dtype type, std::uint8_t* to) {
  const std::uint16_t narrowed = type == Dtype::bfloat16 ? static_cast<std::uint16_t>(bits >> 16) : truncated_to_half(bits);
  std::memcpy(to, &narrowed, sizeof narrowed);
  return widened(to, type) == bits;
}

bool has_stored_weight(const Node& node, const ValueType& source) {
  if (!facts_of(node.op).weighted() || source.quantized()) return false;
  const auto weight = node.tensors.find("weight");
  return weight != node.tensors.end() && weight->second.dtype != Dtype::float32;
}

void widen_weights(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (!has_stored_weight(node, graph.type_of(node.inputs[0]))) continue;
    Tensor& weight = node.tensors.find("weight")->second;
    const auto scales = node.tensors.find("weight_scale");
    const std::int64_t size = weight.size(), row = size / weight.shape[0];
    Tensor real{Dtype::float32, weight.shape, TensorBytes(static_cast<std::size_t>(size) * sizeof(float))};
    auto* values = reinterpret_cast<float*>(real.bytes.data());
    for (std::int64_t i = 0; i < size; ++i) {
      const float value = element(weight, i);
      values[i] = scales == node.tensors.end() ? value : value * scales->second.as<float>()[i / row];
    }
    weight = std::move(real);
    if (scales != node.tensors.end()) node.tensors.erase(scales);
  }
}

}  // namespace paretrim
