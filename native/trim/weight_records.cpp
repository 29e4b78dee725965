#include "trim/weight_records.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>

#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/container.h"
#include "trim/range_coder.h"
#include "trim/structure.h"
#include "trim/versions.h"
#include "trim/weight_codings.h"
#include "trim/weight_facts.h"
#include "trim/weight_groups.h"

namespace paretrim::trim {
namespace {

// Codings to try for integers, the fastest to read first. In a large record, a coding may be this many thousandths longer than
// the shortest one: counted reads about ten times as fast as plain, plain twice as fast as rich.
struct Option {
  Model model;
  std::uint64_t thousandths;
};
constexpr std::array<Option, 3> options = {{{counted, 10}, {plain, 10}, {rich, 0}}};
// Tables and groups must save this much, in thousandths and in bytes, because earlier readers cannot read files with them.
constexpr std::uint64_t worth_newer = 20, worth_newer_bytes = 16;

bool is_worth_newer(std::uint64_t size, std::uint64_t otherwise) {
  return size * 1000 <= otherwise * (1000 - worth_newer) && size + worth_newer_bytes <= otherwise;
}

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

// Encodes a record with integers as they are.
std::vector<std::uint8_t> encode_integers(const Graph& graph, const std::vector<Piece>& pieces) {
  const auto integers = integers_of(graph, pieces);
  const RowKinds kinds = kinds_of(integers);
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
    if (is_worth_newer(listed.bytes.size(), otherwise) && is_taken(listed, pieces)) return with_coding(tabled, listed.bytes);
  }
  if (first == options.size()) return with_coding(rich, encode(graph, pieces, rich, kinds).bytes);
  return with_coding(options[first].model, found[first].bytes);
}

}  // namespace

std::vector<std::uint8_t> encode_weights(const Graph& graph, const std::vector<Piece>& pieces, std::uint64_t few_floats,
                                         ExponentBuffers& buffers) {
  if (integers_of(graph, pieces).empty()) return encode_floats(graph, pieces, kinds_of({}), few_floats, buffers);
  std::vector<std::uint8_t> record = encode_integers(graph, pieces);
  const std::vector<std::uint8_t> grouped = encode_in_groups(graph, pieces, encode_integers);
  const bool taken = !grouped.empty() && is_worth_newer(grouped.size() + 1, record.size()) &&
                     bytes_in(pieces) <= most_decoded(grouped.size() + 1);
  return taken ? with_coding(in_groups, grouped) : record;
}

std::uint64_t modelled_bytes(const Graph& graph, const std::vector<Piece>& pieces, const std::vector<std::uint8_t>& record) {
  std::uint64_t bytes = 0;
  std::uint8_t coding = record[0];
  if (coding == in_groups) {
    const GroupedRecord grouped = groups_of(graph, pieces, record.data() + 1, record.size() - 1);
    for (const Groups& groups : grouped.groups) bytes += groups.multipliers.size();
    coding = record[1 + grouped.inner];
  }
  for (const Piece& piece : pieces) {
    const Tensor& tensor = tensor_at(graph, piece.place);
    const bool by_model = tensor.dtype == Dtype::int8 ? coding != counted : coding != by_exponents;
    const std::uint64_t each = paretrim::bytes_of(tensor.dtype);
    const std::uint8_t* number = tensor.bytes.data() + piece.first * piece.bytes_per_row;
    const std::uint8_t* const end = number + piece.rows * piece.bytes_per_row;
    for (; by_model && number < end; number += each) {
      bytes += std::any_of(number, number + each, [](std::uint8_t byte) { return byte != 0; }) ? each : 0;
    }
  }
  return bytes;
}

std::uint64_t version_of(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || data[0] <= counted) return one_vector;
  return data[0] == tabled ? value_tables : data[0] == by_exponents ? float_exponents : weight_groups;
}

namespace {

std::vector<double> decode_in_groups(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                     const Poll& poll, Allowance* allowance) {
  const GroupedRecord grouped = groups_of(graph, pieces, data, size, allowance);
  data += grouped.inner;
  size -= grouped.inner;
  const std::uint8_t coding = coding_of(data, size, tabled);
  std::vector<double> bits = decode_integers(graph, pieces, coding, data + 1, size - 1, poll, allowance);
  std::transform(bits.begin(), bits.end(), grouped.bits.begin(), bits.begin(), std::plus<>());
  multiply(graph, pieces, grouped.groups);
  return bits;
}

std::uint8_t last_coding(std::uint64_t version) {
  if (version == weight_groups) return in_groups;
  return version == float_exponents ? by_exponents : version == value_tables ? tabled : counted;
}

}  // namespace

std::vector<double> decode_weights(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   std::uint64_t version, const Poll& poll, Allowance* allowance) {
  const std::uint8_t coding = coding_of(data, size, last_coding(version));
  if (coding == in_groups) return decode_in_groups(graph, pieces, data + 1, size - 1, poll, allowance);
  if (coding != by_exponents) return decode_integers(graph, pieces, coding, data + 1, size - 1, poll, allowance);
  if (!integers_of(graph, pieces).empty()) corrupt("it is coded by exponents but holds integers");
  return decode_by_exponents(floats_of<std::uint8_t>(graph, pieces, false), data + 1, size - 1, poll);
}

}  // namespace paretrim::trim
