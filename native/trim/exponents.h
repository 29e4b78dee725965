// Codes floats by the frequencies of their exponents and copies signs and mantissas verbatim, because those are mostly noise.
// Reads many times as fast as the adaptive model. See SPEC.md, "Floats by exponents".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "trim/rans.h"
#include "types/poll.h"

namespace paretrim::trim {

// The float32, float16 or bfloat16 values of a piece.
template <typename Byte>
struct Floats {
  Byte* bytes;
  std::size_t count;
  Dtype type;
};

// Memory for encoding one record after another, because memory that is new costs more than filling it.
struct ExponentBuffers {
  SymbolEncoder symbols;
  std::vector<std::uint8_t> rest;
};

// A record: the byte `coding` and the body. Every piece must have elements.
std::vector<std::uint8_t> encode_by_exponents(const std::vector<Floats<const std::uint8_t>>& pieces, std::uint8_t coding,
                                              ExponentBuffers& buffers);
// Returns the number of bits of each piece.
std::vector<double> decode_by_exponents(const std::vector<Floats<std::uint8_t>>& pieces, const std::uint8_t* data,
                                        std::size_t size, const Poll& poll);

// Estimates the size in bytes with the adaptive model, from a sample. Returns ~0 if the last bits are not noise.
std::uint64_t learned_bytes(const std::vector<Floats<const std::uint8_t>>& pieces);

}  // namespace paretrim::trim
