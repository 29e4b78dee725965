#include "plan/meaning.h"

#include <algorithm>
#include <cmath>

#include "graph/attributes.h"
#include "graph/counting.h"
#include "plan/elementwise.h"

namespace paretrim {
namespace {

const Tensor& tensor(const Node& node, std::string_view name) { return node.tensors.find(name)->second; }

// Takes every `step`-th channel, starting at `first`.
void take_channels(Move& move, std::int64_t first, std::int64_t step) {
  for (std::int64_t c = 0; c < move.out.channels; ++c) move.channels.push_back(first + c * step);
}

void slice(const Node& node, Move& move) {
  const std::int64_t axis = integer(node, "axis"), start = integer(node, "start"), step = integer(node, "step");
  take_channels(move, axis == 0 ? start : 0, axis == 0 ? step : 1);
  // The step of an axis with one position does not matter. Using 1 keeps the product of the steps of merged moves small.
  if (axis == 1) {
    move.row = start;
    move.row_step = move.out.height > 1 ? step : 1;
  } else if (axis == 2) {
    move.column = start;
    move.column_step = move.out.width > 1 ? step : 1;
  }
}

void pad(const Node& node, Move& move) {
  const std::vector<std::int64_t> before = integers(node, "before");
  take_channels(move, -before[0], 1);
  move.row = -before[1];
  move.column = -before[2];
}

// Number of nonzero weights that only meet padding.
template <typename Number>
double only_padding(const Number* weight, std::int64_t count, const Geometry& geometry) {
  const std::int64_t positions = geometry.kernel.vertical * geometry.kernel.horizontal;
  std::int64_t found = 0;
  for (const std::int64_t position : padding_positions(geometry)) {
    for (std::int64_t i = position; i < count; i += positions) found += weight[i] != 0;
  }
  return static_cast<double>(found);
}

// Output channel j * groups + i is input channel i * (C / groups) + j.
void channel_shuffle(const Node& node, Move& move) {
  const std::int64_t groups = integer(node, "groups");
  for (std::int64_t c = 0; c < move.out.channels; ++c) {
    move.channels.push_back(c % groups * (move.in.channels / groups) + c / groups);
  }
}

struct MoveRow {
  Op op;
  void (*fill_in)(const Node&, Move&);  // `move` has its layouts; channels that the input lacks become fill
};

constexpr MoveRow moves[] = {{Op::slice, slice}, {Op::pad, pad}, {Op::channel_shuffle, channel_shuffle}};

}  // namespace

WeightedLayer weighted_of(const Node& node, const ValueType& source) {
  WeightedLayer layer;
  const bool real = !source.quantized();
  layer.geometry.in = Layout::of(source);
  layer.geometry.out = real ? Layout::of(node.type) : Layout::of(node.type.shape);
  if (facts_of(node.op).multiplies == Multiplies::windows) {
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
  for (const MoveRow& row : moves) {
    if (row.op == node.op) row.fill_in(node, move);
  }
  for (std::int64_t& channel : move.channels) channel = channel < move.in.channels ? channel : -1;
  return source.quantized() ? move : float_move(move);
}

Move float_move(Move move) {
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

std::vector<std::uint8_t> rescaling_table(const Node& node, const ValueType& source) {
  const float factor = ratio(source.scale, node.type.scale, node);
  std::vector<std::uint8_t> table;
  const Requantization to{node.type.zero_point};
  for (std::int32_t q = 0; q < 256; ++q) table.push_back(onto_grid(static_cast<float>(q - source.zero_point) * factor, to));
  return table;
}

void fill_report(LayerReport& report, const Node& node, const WeightedLayer& layer, const Choice& choice, double issued) {
  const Tensor& weight = tensor(node, "weight");
  const auto pixels = static_cast<double>(layer.geometry.out.pixels());
  report.weights = static_cast<double>(weight.size());
  report.zeros = static_cast<double>(layer.element == Element::int8
                                         ? sum_in_parts(layer.weight, weight.size(), [](std::int8_t value) { return value == 0; })
                                         : std::count(layer.float_weight, layer.float_weight + weight.size(), 0.0F));
  report.multiply_adds = report.weights * pixels;
  const double unread = layer.element == Element::int8 ? only_padding(layer.weight, weight.size(), layer.geometry)
                                                       : only_padding(layer.float_weight, weight.size(), layer.geometry);
  report.useful_multiply_adds = (report.weights - report.zeros - unread) * pixels;
  report.issued_multiply_adds = issued;
  report.kernel = text_of(choice);
}

}  // namespace paretrim
