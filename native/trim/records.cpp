#include "trim/records.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>

#include "graph/functions.h"
#include "trim/bytes.h"
#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/static_weights.h"
#include "trim/structure.h"
#include "trim/weights.h"

namespace paretrim::trim {
namespace {

// Anything could stand behind, and the values would be the same. (Of the few bytes that a decoder is ahead, that is still so.)
void check_end(const Decoder& decoder) {
  if (!decoder.ended()) corrupt("its coded stream does not end where its values do");
}

enum Coding : std::uint8_t { verbatim = 0, modelled = 1 };       // of text and parameters
enum Model : std::uint8_t { plain = 0, rich = 1, counted = 2 };  // of weights

std::vector<Place> tensors_of(const Graph& graph, bool large) {
  std::vector<Place> found;
  for (std::uint32_t node = 0; node < graph.nodes.size(); ++node) {
    for (const auto& [name, tensor] : graph.nodes[node].tensors) {
      if (is_large(tensor) == large) found.push_back({node, name});
    }
  }
  return found;
}

std::uint64_t rows_of(const Tensor& tensor) { return static_cast<std::uint64_t>(tensor.shape[0]); }

Tensor& tensor_at(Graph& graph, const Place& place) { return graph.nodes[place.node].tensors.find(place.name)->second; }

std::uint8_t coding_of(const std::uint8_t* data, std::size_t size, std::uint8_t known) {
  if (size == 0) corrupt("it has no bytes and begins with its coding");
  if (data[0] > known) corrupt("its coding is " + std::to_string(data[0]) + "; known are 0 to " + std::to_string(known));
  return data[0];
}

std::vector<std::uint8_t> with_coding(std::uint8_t coding, const std::vector<std::uint8_t>& body) {
  std::vector<std::uint8_t> result;
  result.reserve(body.size() + 1);
  result.push_back(coding);
  result.insert(result.end(), body.begin(), body.end());
  return result;
}

// The coded form, or the bytes themselves where that is shorter or no decoder would read the other to its end.
std::vector<std::uint8_t> shorter(Encoder& encoder, const std::vector<std::uint8_t>& bytes) {
  const std::vector<std::uint8_t> coded = encoder.finish();
  return encoder.readable() && coded.size() < bytes.size() ? with_coding(modelled, coded) : with_coding(verbatim, bytes);
}

// The table from pixels to the first grid is a formula of exact operations, and so its own best prediction. Empty for others.
std::vector<std::uint8_t> prediction_of(const Graph& graph, const Place& place) {
  const Node& node = graph.nodes[place.node];
  const InputSpec& input = graph.input;
  const Tensor& table = tensor_at(graph, place);
  const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(input.mean.size()), 256};
  const bool fits = node.op == Op::quantize && node.inputs.size() == 1 && node.inputs[0] == 0 && place.name == "table" &&
                    table.dtype == Dtype::uint8 && table.shape == shape && input.mean.size() == input.std.size();
  if (!fits) return {};
  return pixel_table(input, node.type);
}

// By how many bits each bias is coarser than its accumulator: as many as leave it finer than an eighth of an output step.
std::vector<int> coarseness_of(const Graph& graph, const Node& node, const Tensor& scale) {
  std::vector<int> shifts;
  const float source = graph.type_of(node.inputs[0]).scale;
  for (std::int64_t i = 0; i < scale.size(); ++i) {
    const float multiplier = scale.as<float>()[i] * source / node.type.scale;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &multiplier, sizeof bits);
    const int exponent = static_cast<int>(bits >> 23 & 255) - 126;
    shifts.push_back(std::clamp(-3 - exponent, 0, 31));
  }
  return shifts;
}

// The biases that belong to a scale: without the bits that are 0 in each of them, if they are.
template <class Coder, typename AnyTensor>
void code_biases(Coder& coder, NumberModel& model, const std::vector<int>& shifts, AnyTensor& biases) {
  std::vector<std::uint32_t> values(shifts.size());
  bool coarse = true;
  if constexpr (!Coder::decodes) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int32_t bias = biases.template as<std::int32_t>()[i];
      values[i] = static_cast<std::uint32_t>(bias >> shifts[i]);
      coarse = coarse && values[i] << shifts[i] == static_cast<std::uint32_t>(bias);
    }
  }
  coarse = code_raw(coder, coarse, 1) != 0;
  if (!coarse) return model.code_integers(coder, biases.bytes.data(), shifts.size());
  model.code_integers(coder, reinterpret_cast<Bytes<Coder>>(values.data()), values.size());
  if constexpr (Coder::decodes) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] <<= shifts[i];
    if (!values.empty()) std::memcpy(biases.bytes.data(), values.data(), 4 * values.size());
  }
}

// The biases behind a place, if this is a scale that they belong to.
template <typename AnyNode>
auto biases_of(AnyNode& node, const std::string& name) -> decltype(&node.tensors.begin()->second) {
  const auto scale = node.tensors.find("weight_scale"), bias = node.tensors.find("bias");
  const bool both = scale != node.tensors.end() && bias != node.tensors.end() && node.type.quantized() && !node.inputs.empty() &&
                    scale->second.dtype == Dtype::float32 && bias->second.dtype == Dtype::int32 && !is_large(scale->second) &&
                    elements_of(scale->second) == elements_of(bias->second);
  return both && (name == "weight_scale" || name == "bias") ? &bias->second : nullptr;
}

template <class Coder, typename AnyGraph>
void code_parameters(Coder& coder, AnyGraph& graph) {
  NumberModel model;
  for (const Place& place : small_tensors(graph)) {
    auto& node = graph.nodes[place.node];
    auto& tensor = tensor_at(graph, place);
    auto* const biases = biases_of(node, place.name);
    const auto count = static_cast<std::size_t>(elements_of(tensor));
    if (biases == &tensor) continue;  // they follow their scales
    if (tensor.dtype == Dtype::float32) {
      model.code_floats(coder, tensor.bytes.data(), count);
      if (biases) code_biases(coder, model, coarseness_of(graph, node, tensor), *biases);
    } else if (tensor.dtype == Dtype::int32) {
      model.code_integers(coder, tensor.bytes.data(), count);
    } else {
      const std::vector<std::uint8_t> prediction = prediction_of(graph, place);
      model.code_bytes(coder, tensor.bytes.data(), count, prediction.empty() ? nullptr : prediction.data());
    }
  }
}

// [rows, channels, height, width] of a piece; axes between are one.
template <typename Value>
Weights<Value> weights_of(const Graph& graph, const Piece& piece, Value* values) {
  const Tensor& tensor = tensor_at(graph, piece.place);
  const std::size_t axes = tensor.shape.size();
  Weights<Value> weights = {values, static_cast<std::int64_t>(piece.rows), tensor.shape[1], 1, 1, nullptr};
  if (axes > 2) weights.width = tensor.shape[axes - 1];
  for (std::size_t axis = 2; axis + 1 < axes; ++axis) weights.height *= tensor.shape[axis];
  const auto& siblings = graph.nodes[piece.place.node].tensors;
  const auto scale = siblings.find("weight_scale");
  const bool scaled = piece.place.name == "weight" && scale != siblings.end() && scale->second.dtype == Dtype::float32 &&
                      elements_of(scale->second) == rows_of(tensor);
  if (scaled) weights.scales = scale->second.as<float>() + piece.first;
  return weights;
}

// One record of weights: `integers` codes a piece of int8, `finished` is called behind every piece.
template <class Coder, typename AnyGraph, typename Integers, typename Finished>
void code_weights(Coder& coder, AnyGraph& graph, const std::vector<Piece>& pieces, const Integers& integers,
                  const Finished& finished) {
  NumberModel floats;
  for (const Piece& piece : pieces) {
    auto& tensor = tensor_at(graph, piece.place);
    auto* bytes = tensor.bytes.data() + piece.first * piece.bytes_a_row;
    const std::uint64_t size = piece.rows * piece.bytes_a_row;
    if (size > 0 && tensor.dtype == Dtype::int8) {
      using Value = std::conditional_t<Coder::decodes, std::int8_t, const std::int8_t>;
      integers(weights_of<Value>(graph, piece, reinterpret_cast<Value*>(bytes)));
    } else if (size > 0) {
      floats.code_floats(coder, bytes, size / 4);
    }
    finished();
  }
}

std::vector<std::uint8_t> encode_modelled(const Graph& graph, const std::vector<Piece>& pieces, bool rich) {
  Encoder encoder;
  const auto model = std::make_unique<WeightModel>(rich);
  code_weights(encoder, graph, pieces, [&](const auto& weights) { model->code(encoder, weights, Poll()); }, [] {});
  return encoder.finish();
}

std::vector<double> decode_modelled(Graph& graph, const std::vector<Piece>& pieces, bool rich, const std::uint8_t* data,
                                    std::size_t size, const Poll& poll) {
  Decoder decoder(data, size);
  const auto model = std::make_unique<WeightModel>(rich);
  std::vector<double> bits;
  double before = 0;
  const auto note_bits = [&] {
    bits.push_back(decoder.bits() - before);
    before = decoder.bits();
  };
  code_weights(decoder, graph, pieces, [&](const auto& weights) { model->code(decoder, weights, poll); }, note_bits);
  check_end(decoder);
  return bits;
}

// Length of the coded stream, that stream, symbols. Nothing where there are no integers, or one that has no symbol.
std::vector<std::uint8_t> encode_counted(const Graph& graph, const std::vector<Piece>& pieces) {
  std::vector<Weights<const std::int8_t>> integers;
  for (const Piece& piece : pieces) {
    const Tensor& tensor = tensor_at(graph, piece.place);
    const auto* values = tensor.as<std::int8_t>() + piece.first * piece.bytes_a_row;
    const bool coded = tensor.dtype == Dtype::int8 && piece.rows * piece.bytes_a_row > 0;
    if (coded) integers.push_back(weights_of<const std::int8_t>(graph, piece, values));
  }
  const RowKinds kinds = kinds_of(integers);
  if (kinds.mask_kinds.empty()) return {};
  Encoder encoder;
  StaticEncoder writer(encoder, kinds);
  code_weights(encoder, graph, pieces, [&](const auto& weights) { writer.code(weights); }, [] {});
  const std::vector<std::uint8_t> coded = encoder.finish(), symbols = writer.finish();
  ByteWriter body;
  body.number(coded.size());
  body.append(coded.data(), coded.size());
  body.append(symbols.data(), symbols.size());
  return std::move(body.bytes());
}

std::vector<double> decode_counted(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   const Poll& poll) {
  ByteReader body(data, size);
  const std::size_t length = body.number(size, "the length of its stream");
  Decoder decoder(body.take(length), length);
  const std::size_t symbols = body.left();
  StaticDecoder reader(decoder, body.take(symbols), symbols);
  std::vector<double> bits;
  double before = 0;
  const auto note_bits = [&] {
    const double now = decoder.bits() + 8.0 * static_cast<double>(symbols - reader.bytes_left());
    bits.push_back(now - before);
    before = now;
  };
  code_weights(decoder, graph, pieces, [&](const auto& weights) { reader.code(weights, poll); }, note_bits);
  check_end(decoder);
  reader.finish();
  return bits;
}

// Ways to code a record of weights, the one that is read fastest first, and how many thousandths longer than the shortest a
// record of many weights may be for it: counted is read about ten times as fast as plain, plain twice as fast as rich.
struct Way {
  Model model;
  std::uint64_t thousandths;
};
constexpr std::array<Way, 3> ways = {{{counted, 10}, {plain, 10}, {rich, 0}}};
constexpr std::uint64_t few_bytes = 1 << 19;  // decoded: read within some milliseconds, whatever the way

}  // namespace

bool is_large(const Tensor& tensor) {
  return tensor.shape.size() >= 2 && (tensor.dtype == Dtype::int8 || tensor.dtype == Dtype::float32);
}

const Tensor& tensor_at(const Graph& graph, const Place& place) {
  return graph.nodes[place.node].tensors.find(place.name)->second;
}

std::vector<Place> large_tensors(const Graph& graph) { return tensors_of(graph, true); }

std::vector<Place> small_tensors(const Graph& graph) { return tensors_of(graph, false); }

std::vector<std::vector<Piece>> pieces_of(const Graph& graph, const std::vector<std::uint64_t>& rows) {
  std::vector<std::vector<Piece>> records(rows.size());
  std::size_t record = 0;
  std::uint64_t room = rows.empty() ? 0 : rows[0];
  for (const Place& place : large_tensors(graph)) {
    const Tensor& tensor = tensor_at(graph, place);
    const std::uint64_t count = rows_of(tensor), bytes_a_row = count ? bytes_of(tensor) / count : 0;
    for (std::uint64_t first = 0; first < count;) {
      while (room == 0) {
        if (++record >= rows.size()) corrupt("the records of weights hold fewer rows than the network's tensors have");
        room = rows[record];
      }
      const std::uint64_t taken = std::min(room, count - first);
      records[record].push_back({place, first, taken, bytes_a_row});
      first += taken;
      room -= taken;
    }
  }
  if (room > 0 || std::any_of(rows.begin() + static_cast<std::ptrdiff_t>(std::min(record + 1, rows.size())), rows.end(),
                              [](std::uint64_t more) { return more > 0; })) {
    corrupt("the records of weights hold more rows than the network's tensors have");
  }
  return records;
}

std::vector<std::uint8_t> encode_text(const std::vector<std::uint8_t>& bytes) {
  Encoder encoder;
  TextModel().code(encoder, bytes.data(), bytes.size());
  return shorter(encoder, bytes);
}

std::vector<std::uint8_t> decode_text(const std::uint8_t* data, std::size_t size, std::uint64_t decoded) {
  if (coding_of(data, size, modelled) == verbatim) {
    if (size - 1 != decoded) corrupt("it holds " + std::to_string(size - 1) + " bytes and claims " + std::to_string(decoded));
    return {data + 1, data + size};
  }
  std::vector<std::uint8_t> bytes(decoded);
  Decoder decoder(data + 1, size - 1);
  TextModel().code(decoder, bytes.data(), bytes.size());
  check_end(decoder);
  return bytes;
}

std::vector<std::uint8_t> encode_parameters(const Graph& graph) {
  Encoder encoder;
  code_parameters(encoder, graph);
  std::vector<std::uint8_t> bytes;
  for (const Place& place : small_tensors(graph)) {
    const Tensor& tensor = tensor_at(graph, place);
    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  return shorter(encoder, bytes);
}

void decode_parameters(Graph& graph, const std::uint8_t* data, std::size_t size) {
  if (coding_of(data, size, modelled) == modelled) {
    Decoder decoder(data + 1, size - 1);
    code_parameters(decoder, graph);
    return check_end(decoder);
  }
  ByteReader reader(data + 1, size - 1);
  for (const Place& place : small_tensors(graph)) {
    Tensor& tensor = tensor_at(graph, place);
    const std::uint8_t* from = reader.take(tensor.bytes.size());
    std::copy_n(from, tensor.bytes.size(), tensor.bytes.begin());
  }
  if (reader.left() > 0) corrupt(std::to_string(reader.left()) + " bytes stand behind its end");
}

std::vector<std::uint8_t> encode_weights(const Graph& graph, const std::vector<Piece>& pieces) {
  std::array<std::vector<std::uint8_t>, ways.size()> found = {
      encode_counted(graph, pieces), encode_modelled(graph, pieces, false), encode_modelled(graph, pieces, true)};
  std::uint64_t decoded = 0;
  for (const Piece& piece : pieces) decoded += piece.rows * piece.bytes_a_row;
  const bool many = decoded > few_bytes;
  std::size_t first = found[0].empty() ? 1 : 0, shortest = found[first].size();
  for (std::size_t i = first; i < ways.size(); ++i) shortest = std::min(shortest, found[i].size());
  while (found[first].size() * 1000 > shortest * (1000 + (many ? ways[first].thousandths : 0))) ++first;
  return with_coding(ways[first].model, found[first]);
}

std::vector<double> decode_weights(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   const Poll& poll) {
  const std::uint8_t model = coding_of(data, size, counted);
  if (model == counted) return decode_counted(graph, pieces, data + 1, size - 1, poll);
  return decode_modelled(graph, pieces, model == rich, data + 1, size - 1, poll);
}

}  // namespace paretrim::trim
