// The codings of a record of weights, each to bytes and back. Which one a writer takes is decided in weight_records.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/budget.h"
#include "trim/exponents.h"
#include "trim/records.h"
#include "trim/static_weights.h"
#include "trim/weights.h"

namespace paretrim::trim {

// As the first byte of a record says.
enum Model : std::uint8_t { plain = 0, rich = 1, counted = 2, tabled = 3, by_exponents = 4, in_groups = 5 };

// The bytes of a record without its coding byte; none if the coding cannot hold the weights. `readable` as of an encoder.
struct CodedWeights {
  std::vector<std::uint8_t> bytes;
  bool readable = false;
};

// The nonempty integer pieces.
std::vector<Weights<const std::int8_t>> integers_of(const Graph& graph, const std::vector<Piece>& pieces);

// The float pieces; only nonempty ones if `filled`.
template <typename Byte, typename AnyGraph>
std::vector<Floats<Byte>> floats_of(AnyGraph& graph, const std::vector<Piece>& pieces, bool filled) {
  std::vector<Floats<Byte>> floats;
  for (const Piece& piece : pieces) {
    auto& tensor = graph.nodes[piece.place.node].tensors.find(piece.place.name)->second;
    const std::uint64_t size = piece.rows * piece.bytes_per_row;
    if (is_float(tensor.dtype) && !(filled && size == 0))
      floats.push_back(
          {tensor.bytes.data() + piece.first * piece.bytes_per_row, size / paretrim::bytes_of(tensor.dtype), tensor.dtype});
  }
  return floats;
}

// In the coding `plain`, `rich` or `tabled`.
CodedWeights encode_modelled(const Graph& graph, const std::vector<Piece>& pieces, Model of);
// In the coding `counted`: the length of the coded stream, the stream, and the symbols. Empty if `kinds` has no rows.
CodedWeights encode_counted(const Graph& graph, const std::vector<Piece>& pieces, const RowKinds& kinds);

// Decodes `plain`, `rich`, `counted` or `tabled`, without the coding byte. Returns the number of bits of each piece.
std::vector<double> decode_integers(Graph& graph, const std::vector<Piece>& pieces, std::uint8_t coding, const std::uint8_t* data,
                                    std::size_t size, const Poll& poll, Allowance* allowance);

}  // namespace paretrim::trim
