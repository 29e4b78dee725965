#include "trim/weight_groups.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/container.h"
#include "trim/numbers.h"
#include "trim/part.h"
#include "trim/range_coder.h"
#include "trim/structure.h"

namespace paretrim::trim {
namespace {

constexpr std::array<std::uint64_t, 4> sizes = {128, 64, 32, 16};  // channels of a group that a writer tries
constexpr int most_levels = 31;                                    // magnitudes of small integers: 6 bits with the sign
constexpr int group_bits = 8;                                      // of the number of channels

// One integer piece: rows of `channels` times `area` weights.
template <typename Value>
struct Rows {
  Value* values;
  std::uint64_t rows, channels, area;

  // Calls `visit` with the first weight and the number of weights of every group, by row.
  template <typename Visit>
  void each(std::uint64_t size, const Visit& visit) const {
    for (std::uint64_t row = 0; row < rows; ++row) {
      for (std::uint64_t first = 0; first < channels; first += size) {
        visit(values + (row * channels + first) * area, std::min(size, channels - first) * area);
      }
    }
  }
};

template <typename Value, typename AnyGraph>
std::vector<Rows<Value>> rows_of(AnyGraph& graph, const std::vector<Piece>& pieces) {
  std::vector<Rows<Value>> found;
  for (const Piece& piece : pieces) {
    auto& tensor = graph.nodes[piece.place.node].tensors.find(piece.place.name)->second;
    if (tensor.dtype != Dtype::int8 || piece.rows * piece.bytes_per_row == 0) continue;
    const auto channels = static_cast<std::uint64_t>(tensor.shape[1]);
    auto* values = reinterpret_cast<Value*>(tensor.bytes.data()) + piece.first * piece.bytes_per_row;
    found.push_back({values, piece.rows, channels, piece.bytes_per_row / channels});
  }
  return found;
}

// The greatest common divisor of every group of this size, 1 for zeros; none if a quotient would be too large.
std::vector<std::uint8_t> divisors(const Rows<const std::int8_t>& rows, std::uint64_t size) {
  std::vector<std::uint8_t> found;
  bool small = true;
  rows.each(size, [&](const std::int8_t* values, std::uint64_t count) {
    if (!small) return;
    int divisor = 0, largest = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      largest = std::max(largest, std::abs(int{values[i]}));
      if (divisor != 1) divisor = std::gcd(divisor, int{values[i]});
    }
    if (divisor == 128) divisor = 64;  // a group of -128 and zeros; multipliers fit int8
    small = largest <= most_levels * std::max(divisor, 1);
    found.push_back(static_cast<std::uint8_t>(std::max(divisor, 1)));
  });
  if (!small) found.clear();
  return found;
}

// The largest groups of which every one has small integers; none if all their multipliers are 1.
Groups groups_of(const Rows<const std::int8_t>& rows) {
  for (const std::uint64_t size : sizes) {
    std::vector<std::uint8_t> found = divisors(rows, size);
    const bool some = std::any_of(found.begin(), found.end(), [](std::uint8_t divisor) { return divisor > 1; });
    if (some) return {size, std::move(found)};
    if (!found.empty()) break;
  }
  return {};
}

// Codes the groups of one piece.
template <class Coder, typename Value>
void code_groups(Coder& coder, NumberModel& numbers, const Rows<Value>& rows, Groups& groups, Allowance* allowance = nullptr) {
  groups.channels = code_raw(coder, static_cast<std::uint32_t>(groups.channels), group_bits);
  if (groups.channels == 0) return;
  const std::uint64_t count = rows.rows * ((rows.channels + groups.channels - 1) / groups.channels);
  if (allowance) allowance->take(count);
  std::vector<std::int32_t> values(count);
  if constexpr (!Coder::decodes) std::copy(groups.multipliers.begin(), groups.multipliers.end(), values.begin());
  numbers.code_integers(coder, reinterpret_cast<Bytes<Coder>>(values.data()), values.size());
  if constexpr (Coder::decodes) {
    for (const std::int32_t value : values) {
      if (value < 1 || value > 127) corrupt("a multiplier of a group is " + std::to_string(value) + "; it must be 1 to 127");
      groups.multipliers.push_back(static_cast<std::uint8_t>(value));
    }
  }
}

}  // namespace

std::vector<std::uint8_t> encode_in_groups(const Graph& graph, const std::vector<Piece>& pieces, const EncodeRecord& encode) {
  const auto from = rows_of<const std::int8_t>(graph, pieces);
  std::vector<Groups> groups;
  for (const auto& rows : from) groups.push_back(groups_of(rows));
  if (std::none_of(groups.begin(), groups.end(), [](const Groups& one) { return one.channels > 0; })) return {};
  Part part = part_of(graph, pieces);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Tensor& tensor = tensor_at(graph, pieces[i].place);
    Tensor& into = part.graph.nodes[i].tensors.find(pieces[i].place.name)->second;
    std::copy_n(tensor.bytes.begin() + pieces[i].first * pieces[i].bytes_per_row, into.bytes.size(), into.bytes.data());
  }
  const auto into = rows_of<std::int8_t>(part.graph, part.pieces);
  Encoder encoder;
  NumberModel numbers;
  for (std::size_t i = 0; i < into.size(); ++i) {
    code_groups(encoder, numbers, into[i], groups[i]);
    if (groups[i].channels == 0) continue;
    const std::uint8_t* divisor = groups[i].multipliers.data();
    into[i].each(groups[i].channels, [&](std::int8_t* values, std::uint64_t count) {
      for (std::uint64_t k = 0; k < count; ++k) values[k] = static_cast<std::int8_t>(values[k] / *divisor);
      ++divisor;
    });
  }
  const std::vector<std::uint8_t> stream = encoder.finish(), inner = encode(part.graph, part.pieces);
  if (!encoder.readable()) return {};
  ByteWriter body;
  body.number(stream.size());
  body.append(stream.data(), stream.size());
  body.append(inner.data(), inner.size());
  return std::move(body.bytes());
}

GroupedRecord groups_of(const Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                        Allowance* allowance) {
  ByteReader body(data, size);
  const std::size_t length = body.number(size, "the length of its stream");
  Decoder decoder(body.take(length), length);
  NumberModel numbers;
  GroupedRecord record;
  double before = 0;
  for (const Piece& piece : pieces) {
    for (const auto& rows : rows_of<const std::int8_t>(graph, {piece})) {
      Groups groups;
      code_groups(decoder, numbers, rows, groups, allowance);
      record.groups.push_back(std::move(groups));
    }
    record.bits.push_back(decoder.bits() - before);
    before = decoder.bits();
  }
  check_end(decoder);
  record.inner = body.position();
  return record;
}

void multiply(Graph& graph, const std::vector<Piece>& pieces, const std::vector<Groups>& groups) {
  const auto into = rows_of<std::int8_t>(graph, pieces);
  for (std::size_t i = 0; i < into.size(); ++i) {
    if (groups[i].channels == 0) continue;
    const std::uint8_t* multiplier = groups[i].multipliers.data();
    bool fits = true;
    into[i].each(groups[i].channels, [&](std::int8_t* values, std::uint64_t count) {
      for (std::uint64_t k = 0; k < count; ++k) {
        const int product = values[k] * *multiplier;
        fits = fits && product == static_cast<std::int8_t>(product);
        values[k] = static_cast<std::int8_t>(product);
      }
      ++multiplier;
    });
    if (!fits) corrupt("an integer times the multiplier of its group is no int8");
  }
}

}  // namespace paretrim::trim
