#include "plan/meaning.h"

#include <algorithm>
#include <cmath>

#include "graph/attributes.h"
#include "graph/counting.h"
#include "plan/elementwise.h"

namespace paretrim {
namespace {

const Tensor& tensor(const Node& node, std::string_view name) { return node.tensors.find(name)->second; }

}  // namespace

Weighted weighted_of(const Node& node, const ValueType& source) {
  Weighted layer;
  const bool real = !source.quantized();
  layer.geometry.in = Layout::of(source);
  layer.geometry.out = real ? Layout::of(node.type) : Layout::of(node.type.shape);
  if (node.op == Op::conv2d) {
    const std::vector<std::int64_t>& shape = tensor(node, "weight").shape;
    layer.geometry.kernel = {shape[2], shape[3]};
    layer.geometry.stride = pair(node, "stride");
    layer.geometry.dilation = pair(node, "dilation");
    layer.geometry.padding = edges(node, "padding");
    layer.groups = integer(node, "groups");
  }
  if (real) {
    layer.element = Element::float32;
    layer.float_weight = tensor(node, "weight").as<float>();
    const auto bias = node.tensors.find("bias");
    if (bias != node.tensors.end()) layer.float_bias = bias->second.as<float>();
    return layer;
  }
  layer.weight = tensor(node, "weight").as<std::int8_t>();
  layer.bias = tensor(node, "bias").as<std::int32_t>();
  layer.input_zero_point = static_cast<std::uint8_t>(source.zero_point);
  layer.float_result = !node.type.quantized();
  if (node.type.quantized()) layer.to = requantization_of(node);
  const float* scales = tensor(node, "weight_scale").as<float>();
  for (std::int64_t o = 0; o < layer.geometry.out.channels; ++o) {
    const float product = scales[o] * source.scale;
    layer.multipliers.push_back(layer.float_result ? product : product / node.type.scale);
  }
  return layer;
}

Move move_of(const Node& node, const ValueType& source) {
  Move move;
  move.in = Layout::of(source.shape);
  move.out = Layout::of(node.type.shape);
  move.fill = static_cast<std::uint8_t>(source.zero_point);
  std::int64_t first = 0;
  std::int64_t step = 1;
  std::int64_t groups = 1;
  if (node.op == Op::slice) {
    const std::int64_t axis = integer(node, "axis");
    const std::int64_t start = integer(node, "start");
    const std::int64_t stride = integer(node, "step");
    // A step that is never taken counts as 1, so that the product of many stays within the extent it walks.
    if (axis == 0) {
      first = start;
      step = stride;
    } else if (axis == 1) {
      move.row = start;
      move.row_step = move.out.height > 1 ? stride : 1;
    } else {
      move.column = start;
      move.column_step = move.out.width > 1 ? stride : 1;
    }
  } else if (node.op == Op::pad) {
    const std::vector<std::int64_t> before = integers(node, "before");
    first = -before[0];
    move.row = -before[1];
    move.column = -before[2];
  } else {
    groups = integer(node, "groups");
  }
  for (std::int64_t c = 0; c < move.out.channels; ++c) {
    // channel_shuffle: output channel j * groups + i is input channel i * (C / groups) + j
    const std::int64_t from = groups == 1 ? first + c * step : c % groups * (move.in.channels / groups) + c / groups;
    move.channels.push_back(from < move.in.channels ? from : -1);
  }
  return source.quantized() ? move : of_numbers(move);
}

Move of_numbers(Move move) {
  move.in.channels *= block;
  move.out.channels *= block;
  move.first_channel *= block;
  move.fill = 0;
  std::vector<std::int64_t> bytes;
  for (const std::int64_t channel : move.channels) {
    for (std::int64_t b = 0; b < block; ++b) bytes.push_back(channel < 0 ? -1 : channel * block + b);
  }
  move.channels = std::move(bytes);
  return move;
}

std::vector<std::uint8_t> relu_table(std::int32_t zero_point) {
  std::vector<std::uint8_t> table(256);
  for (std::int32_t q = 0; q < 256; ++q) table[static_cast<std::size_t>(q)] = static_cast<std::uint8_t>(std::max(q, zero_point));
  return table;
}

std::vector<std::uint8_t> rescaling(const Node& node, const ValueType& source) {
  const float factor = ratio(source.scale, node.type.scale, node);
  std::vector<std::uint8_t> table;
  for (std::int32_t q = 0; q < 256; ++q) {
    const float steps = std::rint(static_cast<float>(q - source.zero_point) * factor) + static_cast<float>(node.type.zero_point);
    table.push_back(static_cast<std::uint8_t>(std::min(std::max(steps, 0.0F), 255.0F)));
  }
  return table;
}

void fill_report(LayerReport& report, const Node& node, const Weighted& layer, const Choice& choice, double issued) {
  const Tensor& weight = tensor(node, "weight");
  const auto pixels = static_cast<double>(layer.geometry.out.pixels());
  report.weights = static_cast<double>(weight.size());
  report.zeros = static_cast<double>(layer.element == Element::int8
                                         ? sum_in_parts(layer.weight, weight.size(), [](std::int8_t value) { return value == 0; })
                                         : std::count(layer.float_weight, layer.float_weight + weight.size(), 0.0F));
  report.multiply_adds = report.weights * pixels;
  report.useful_multiply_adds = (report.weights - report.zeros) * pixels;
  report.issued_multiply_adds = issued;
  report.kernel = text_of(choice);
}

}  // namespace paretrim
