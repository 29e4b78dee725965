#include "trim/weight_records.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>

#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/container.h"
#include "trim/exponents.h"
#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/static_weights.h"
#include "trim/structure.h"
#include "trim/versions.h"
#include "trim/weight_facts.h"
#include "trim/weights.h"

namespace paretrim::trim {
namespace {

// The codings of a record of weights.
enum Model : std::uint8_t { plain = 0, rich = 1, counted = 2, tabled = 3, by_exponents = 4 };

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

// The bytes of a record without its coding byte; none if the coding cannot hold the weights. `readable` as of an encoder.
struct CodedWeights {
  std::vector<std::uint8_t> bytes;
  bool readable = false;
};

CodedWeights encode_modelled(const Graph& graph, const std::vector<Piece>& pieces, Model of) {
  Encoder encoder;
  const auto model = std::make_unique<WeightModel>(of != plain, of == tabled);
  code_weights(encoder, graph, pieces, [&](const auto& weights) { model->code(encoder, weights, Poll()); }, [] {});
  std::vector<std::uint8_t> bytes = encoder.finish();
  return {std::move(bytes), encoder.readable()};
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

// The nonempty integer pieces.
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

// The float pieces; only nonempty ones if `filled`.
template <typename Byte, typename AnyGraph>
std::vector<Floats<Byte>> floats_of(AnyGraph& graph, const std::vector<Piece>& pieces, bool filled) {
  std::vector<Floats<Byte>> floats;
  for (const Piece& piece : pieces) {
    auto& tensor = tensor_at(graph, piece.place);
    const std::uint64_t size = piece.rows * piece.bytes_per_row;
    if (is_float(tensor.dtype) && !(filled && size == 0))
      floats.push_back(
          {tensor.bytes.data() + piece.first * piece.bytes_per_row, size / paretrim::bytes_of(tensor.dtype), tensor.dtype});
  }
  return floats;
}

// The length of the coded stream, the stream, and the symbols. Empty if `kinds` has no rows.
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

// Codings to try for integers, the fastest to read first. In a large record, a coding may be this many thousandths longer than
// the shortest one: counted reads about ten times as fast as plain, plain twice as fast as rich.
struct Option {
  Model model;
  std::uint64_t thousandths;
};
constexpr std::array<Option, 3> options = {{{counted, 10}, {plain, 10}, {rich, 0}}};
// Tables must save this much, in thousandths and in bytes, because earlier readers cannot read files with tables.
constexpr std::uint64_t worth_tables = 20, worth_tables_bytes = 16;
constexpr std::uint64_t worth_speed = 20;  // thousandths by which floats may be longer by exponents than with the adaptive model

std::uint64_t bytes_in(const std::vector<Piece>& pieces) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.rows * piece.bytes_per_row;
  return bytes;
}

std::atomic<std::uint64_t> coded{0};

CodedWeights encode(const Graph& graph, const std::vector<Piece>& pieces, Model model, const RowKinds& kinds) {
  coded += bytes_in(pieces);
  return model == counted ? encode_counted(graph, pieces, kinds) : encode_modelled(graph, pieces, model);
}

// Whether readers take a record. Of weights that are all alike, a model may leave fewer bytes than they ask for.
bool is_taken(const CodedWeights& record, const std::vector<Piece>& pieces) {
  return record.readable && !record.bytes.empty() && bytes_in(pieces) <= most_decoded(record.bytes.size() + 1);
}

constexpr std::uint64_t sampled_values = 1 << 14;  // nonzero weights: enough to estimate lengths to a few thousandths
constexpr std::uint64_t tolerance = 5;             // error of an estimate, in thousandths
constexpr std::uint64_t smallest_share = 32, largest_share = 4;

// The first rows of all pieces: one in `share`, rounded up.
std::vector<Piece> first_rows(std::vector<Piece> pieces, std::uint64_t share) {
  for (Piece& piece : pieces) piece.rows = (piece.rows + share - 1) / share;
  return pieces;
}

// The `share` for a large enough sample of rows; 0 if a sample would not be much smaller than the record.
std::uint64_t share_of(const std::vector<Weights<const std::int8_t>>& integers) {
  std::uint64_t values = 0;
  for (const auto& weights : integers) {
    const std::int64_t size = weights.outputs * weights.channels * weights.height * weights.width;
    values += static_cast<std::uint64_t>(size - std::count(weights.values, weights.values + size, std::int8_t{0}));
  }
  std::uint64_t share = smallest_share;
  while (share >= largest_share && values / share < sampled_values) share /= 2;
  return share < largest_share ? 0 : share;
}

// Size in bytes of the symbols of these first rows, coded with the frequencies of the whole record.
std::uint64_t symbol_bytes(const Graph& graph, const std::vector<Piece>& pieces, const std::vector<Piece>& first,
                           const RowKinds& kinds) {
  Encoder encoder;
  StaticEncoder writer(encoder, kinds);
  const auto whole = integers_of(graph, pieces), part = integers_of(graph, first);
  for (std::size_t i = 0; i < part.size(); ++i) {
    writer.code(part[i]);
    writer.skip(static_cast<std::size_t>(whole[i].outputs - part[i].outputs));
  }
  return writer.finish().size();
}

// Which options are worth trying for a record of `length` bytes in the `counted` coding, by a sample. The second half of the
// sample, where an adaptive model has learned most, shows how much shorter it is; the first half shows the cost of learning.
std::array<bool, options.size()> worth_coding(const Graph& graph, const std::vector<Piece>& pieces, const RowKinds& kinds,
                                              std::uint64_t length) {
  constexpr std::array<bool, options.size()> all = {true, true, true};
  const std::uint64_t share = share_of(integers_of(graph, pieces));
  if (share == 0) return all;
  const auto rows = first_rows(pieces, share), half = first_rows(pieces, 2 * share);
  const std::uint64_t symbols = symbol_bytes(graph, pieces, rows, kinds), before = symbol_bytes(graph, pieces, half, kinds);
  if (symbols <= before) return all;
  std::array<std::uint64_t, options.size()> lengths = {length, 0, 0};
  for (std::size_t i = 1; i < options.size(); ++i) {
    const std::uint64_t taken = encode(graph, rows, options[i].model, kinds).bytes.size();
    const std::uint64_t later = taken - std::min<std::uint64_t>(taken, encode(graph, half, options[i].model, kinds).bytes.size());
    const std::uint64_t learned = symbols * later / (symbols - before);
    lengths[i] = length * later / (symbols - before) + taken - std::min(taken, learned);
  }
  const std::uint64_t shortest = *std::min_element(lengths.begin(), lengths.end());
  std::array<bool, options.size()> open = {};
  for (std::size_t i = 0; i < options.size(); ++i) {
    open[i] = lengths[i] * 1000 <= shortest * (1000 + options[i].thousandths + tolerance);
    const bool sure = lengths[i] * 1000 + shortest * tolerance <= shortest * (1000 + options[i].thousandths);
    if (sure) break;
  }
  return open;
}

}  // namespace

std::uint64_t coded_bytes() { return coded; }

namespace {

// Encodes a record of floats only: by exponents if the record is large and that costs little, otherwise with the adaptive model.
std::vector<std::uint8_t> encode_floats(const Graph& graph, const std::vector<Piece>& pieces, const RowKinds& kinds,
                                        std::uint64_t few_floats, ExponentBuffers& buffers) {
  const auto floats = floats_of<const std::uint8_t>(graph, pieces, true);
  const bool always = few_floats == 0 && !floats.empty(), many = bytes_in(pieces) > few_floats;
  const std::uint64_t learned = many && !always ? learned_bytes(floats) : ~std::uint64_t{0};
  if (always || learned != ~std::uint64_t{0}) {
    std::vector<std::uint8_t> split = encode_by_exponents(floats, by_exponents, buffers);
    coded += bytes_in(pieces);
    if (always || (split.size() - 1) * 1000 <= learned * (1000 + worth_speed)) return split;
  }
  const CodedWeights modelled = encode(graph, pieces, plain, kinds);
  const bool taken = is_taken(modelled, pieces) || floats.empty();
  return taken ? with_coding(plain, modelled.bytes) : encode_by_exponents(floats, by_exponents, buffers);
}

}  // namespace

std::vector<std::uint8_t> encode_weights(const Graph& graph, const std::vector<Piece>& pieces, std::uint64_t few_floats,
                                         ExponentBuffers& buffers) {
  const auto integers = integers_of(graph, pieces);
  const RowKinds kinds = kinds_of(integers);
  if (integers.empty()) return encode_floats(graph, pieces, kinds, few_floats, buffers);
  std::array<CodedWeights, options.size()> found = {encode(graph, pieces, counted, kinds)};
  const bool possible = !found[0].bytes.empty(), many = bytes_in(pieces) > few_bytes;
  std::array<bool, options.size()> open = {possible, true, true};
  if (possible && many && integers.size() == pieces.size()) open = worth_coding(graph, pieces, kinds, found[0].bytes.size());
  std::size_t shortest = ~std::size_t{0};
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (open[i] && i > 0) found[i] = encode(graph, pieces, options[i].model, kinds);
    open[i] = open[i] && is_taken(found[i], pieces);
    if (open[i]) shortest = std::min(shortest, found[i].bytes.size());
  }
  const auto taken = [&](std::size_t i) {
    return open[i] && found[i].bytes.size() * 1000 <= shortest * (1000 + (many ? options[i].thousandths : 0));
  };
  std::size_t first = 0;
  while (first < options.size() && !taken(first)) ++first;
  const bool few = std::any_of(integers.begin(), integers.end(), [](const auto& one) { return !listed_values(one).empty(); });
  if (few) {
    const CodedWeights listed = encode(graph, pieces, tabled, kinds);
    const std::uint64_t otherwise = first < options.size() ? found[first].bytes.size() : ~std::uint64_t{0} >> 16;
    const std::uint64_t size = listed.bytes.size();
    const bool worth = size * 1000 <= otherwise * (1000 - worth_tables) && size + worth_tables_bytes <= otherwise;
    if (worth && is_taken(listed, pieces)) return with_coding(tabled, listed.bytes);
  }
  if (first == options.size()) return with_coding(rich, encode(graph, pieces, rich, kinds).bytes);
  return with_coding(options[first].model, found[first].bytes);
}

std::uint64_t modelled_bytes(const Graph& graph, const std::vector<Piece>& pieces, const std::vector<std::uint8_t>& record) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces) {
    const Tensor& tensor = tensor_at(graph, piece.place);
    const bool by_model = tensor.dtype == Dtype::int8 ? record[0] != counted : record[0] != by_exponents;
    const std::uint64_t each = paretrim::bytes_of(tensor.dtype);
    const std::uint8_t* number = tensor.bytes.data() + piece.first * piece.bytes_per_row;
    const std::uint8_t* const end = number + piece.rows * piece.bytes_per_row;
    for (; by_model && number < end; number += each) {
      bytes += std::any_of(number, number + each, [](std::uint8_t byte) { return byte != 0; }) ? each : 0;
    }
  }
  return bytes;
}

bool has_tables(const std::uint8_t* data, std::size_t size) { return size > 0 && data[0] == tabled; }

bool has_exponents(const std::uint8_t* data, std::size_t size) { return size > 0 && data[0] == by_exponents; }

std::vector<double> decode_weights(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   std::uint64_t version, const Poll& poll, Allowance* allowance) {
  const std::uint8_t known = version == float_exponents ? by_exponents : version == value_tables ? tabled : counted;
  const std::uint8_t model = coding_of(data, size, known);
  if (model == counted) return decode_counted(graph, pieces, data + 1, size - 1, poll, allowance);
  if (model != by_exponents) return decode_modelled(graph, pieces, model, data + 1, size - 1, poll, allowance);
  if (!integers_of(graph, pieces).empty()) corrupt("it is coded by exponents but holds integers");
  return decode_by_exponents(floats_of<std::uint8_t>(graph, pieces, false), data + 1, size - 1, poll);
}

}  // namespace paretrim::trim
