// Records of weights: the ways to code one, and which of them a writer takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/records.h"

namespace paretrim::trim {

// Decoded bytes that are read within some milliseconds, whatever the way: of integers, and of floats, which are fewer.
inline constexpr std::uint64_t few_bytes = 1 << 19, few_float_bytes = 1 << 21;

// Records of floats of more than `few_floats` bytes may be by exponents; with 0, for tests, all are.
std::vector<std::uint8_t> encode_weights(const Graph& graph, const std::vector<Piece>& pieces, std::uint64_t few_floats);
// From a file of this version. Gives the bits that each piece took.
std::vector<double> decode_weights(Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                   std::uint64_t version, const Poll& poll);

// Whether a record of weights has tables of values.
bool has_tables(const std::uint8_t* data, std::size_t size);
// Whether it holds floats by their exponents.
bool has_exponents(const std::uint8_t* data, std::size_t size);

// Decoded bytes of weights that all writers of this process have coded so far, counted each time that they were; for tests.
std::uint64_t coded_bytes();

}  // namespace paretrim::trim
