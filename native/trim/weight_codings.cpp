#include "trim/weight_codings.h"

#include <memory>

#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/structure.h"

namespace paretrim::trim {
namespace {

Tensor& tensor_at(Graph& graph, const Place& place) { return graph.nodes[place.node].tensors.find(place.name)->second; }

std::uint64_t rows_of(const Tensor& tensor) { return static_cast<std::uint64_t>(tensor.shape[0]); }

// Views a piece as [rows, channels, height, width]. Axes between the second and the last are merged into the height.
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

// Codes one record of weights. `integers` codes an int8 piece; `finished` is called after every piece.
template <class Coder, typename AnyGraph, typename Integers, typename Finished>
void code_weights(Coder& coder, AnyGraph& graph, const std::vector<Piece>& pieces, const Integers& integers,
                  const Finished& finished, Allowance* allowance = nullptr) {
  NumberModel floats;
  for (const Piece& piece : pieces) {
    auto& tensor = tensor_at(graph, piece.place);
    auto* bytes = tensor.bytes.data() + piece.first * piece.bytes_per_row;
    const std::uint64_t size = piece.rows * piece.bytes_per_row;
    if (size > 0 && tensor.dtype == Dtype::int8) {
      using Value = std::conditional_t<Coder::decodes, std::int8_t, const std::int8_t>;
      integers(weights_of<Value>(graph, piece, reinterpret_cast<Value*>(bytes)));
    } else if (size > 0) {
      floats.code_floats(coder, bytes, size / paretrim::bytes_of(tensor.dtype), tensor.dtype, allowance);
    }
    finished();
  }
}

std::vector<double> decode_modelled(Graph& graph, const std::vector<Piece>& pieces, std::uint8_t of, const std::uint8_t* data,
                                    std::size_t size, const Poll& poll, Allowance* allowance) {
  Decoder decoder(data, size);
  const auto model = std::make_unique<WeightModel>(of != plain, of == tabled);
  std::vector<double> bits;
  double before = 0;
  const auto note_bits = [&] {
    bits.push_back(decoder.bits() - before);
    before = decoder.bits();
  };
  const auto integers = [&](const auto& weights) { model->code(decoder, weights, poll, allowance); };
  code_weights(decoder, graph, pieces, integers, note_bits, allowance);
  check_end(decoder);
  return bits;
}

std::vector<double> decode_counted(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   const Poll& poll, Allowance* allowance) {
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
  code_weights(decoder, graph, pieces, [&](const auto& weights) { reader.code(weights, poll); }, note_bits, allowance);
  check_end(decoder);
  reader.finish();
  return bits;
}

}  // namespace

std::vector<Weights<const std::int8_t>> integers_of(const Graph& graph, const std::vector<Piece>& pieces) {
  std::vector<Weights<const std::int8_t>> integers;
  for (const Piece& piece : pieces) {
    const Tensor& tensor = tensor_at(graph, piece.place);
    const auto* values = tensor.as<std::int8_t>() + piece.first * piece.bytes_per_row;
    const bool coded = tensor.dtype == Dtype::int8 && piece.rows * piece.bytes_per_row > 0;
    if (coded) integers.push_back(weights_of<const std::int8_t>(graph, piece, values));
  }
  return integers;
}

CodedWeights encode_modelled(const Graph& graph, const std::vector<Piece>& pieces, Model of) {
  Encoder encoder;
  const auto model = std::make_unique<WeightModel>(of != plain, of == tabled);
  code_weights(encoder, graph, pieces, [&](const auto& weights) { model->code(encoder, weights, Poll()); }, [] {});
  std::vector<std::uint8_t> bytes = encoder.finish();
  return {std::move(bytes), encoder.readable()};
}

CodedWeights encode_counted(const Graph& graph, const std::vector<Piece>& pieces, const RowKinds& kinds) {
  if (kinds.mask_kinds.empty()) return {};
  Encoder encoder;
  StaticEncoder writer(encoder, kinds);
  code_weights(encoder, graph, pieces, [&](const auto& weights) { writer.code(weights); }, [] {});
  const std::vector<std::uint8_t> coded = encoder.finish(), symbols = writer.finish();
  ByteWriter body;
  body.number(coded.size());
  body.append(coded.data(), coded.size());
  body.append(symbols.data(), symbols.size());
  return {std::move(body.bytes()), encoder.readable()};
}

std::vector<double> decode_integers(Graph& graph, const std::vector<Piece>& pieces, std::uint8_t coding, const std::uint8_t* data,
                                    std::size_t size, const Poll& poll, Allowance* allowance) {
  return coding == counted ? decode_counted(graph, pieces, data, size, poll, allowance)
                           : decode_modelled(graph, pieces, coding, data, size, poll, allowance);
}

}  // namespace paretrim::trim
