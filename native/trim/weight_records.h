// Records of weights: their codings, and the writer's choice among them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/budget.h"
#include "trim/exponents.h"
#include "trim/records.h"

namespace paretrim::trim {

// Records of at most this many decoded bytes are read within milliseconds in every coding: integers, and floats.
inline constexpr std::uint64_t few_bytes = 1 << 19, few_float_bytes = 1 << 21;

// Records of floats of more than `few_floats` bytes may be coded by exponents. 0 codes all of them so, for tests.
std::vector<std::uint8_t> encode_weights(const Graph& graph, const std::vector<Piece>& pieces, std::uint64_t few_floats,
                                         ExponentBuffers& buffers);
// `version` is that of the file; `allowance` may be null. Returns the number of bits of each piece.
std::vector<double> decode_weights(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   std::uint64_t version, const Poll& poll, Allowance* allowance = nullptr);
// Bytes of the weights of an encoded record that a reader takes from its allowance.
std::uint64_t modelled_bytes(const Graph& graph, const std::vector<Piece>& pieces, const std::vector<std::uint8_t>& record);

// The earliest version of a file that can hold this record of weights.
std::uint64_t version_of(const std::uint8_t* data, std::size_t size);

// Total decoded bytes of weights that this process has encoded so far, including repeated trials. For tests.
std::uint64_t coded_bytes();

}  // namespace paretrim::trim
