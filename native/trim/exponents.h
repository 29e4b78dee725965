// Floats by the frequencies of their exponents, while signs and mantissas stand as they are: what is noise is copied, and a
// record is read many times as fast as a learned one. See SPEC.md, "Floats by exponents".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "types/poll.h"

namespace paretrim::trim {

// The float32, float16 or bfloat16 of a piece.
template <typename Byte>
struct Floats {
  Byte* bytes;
  std::size_t count;
  Dtype type;
};

// The body of a record; of pieces that have elements.
std::vector<std::uint8_t> encode_by_exponents(const std::vector<Floats<const std::uint8_t>>& pieces);
// Gives the bits that each piece took.
std::vector<double> decode_by_exponents(const std::vector<Floats<std::uint8_t>>& pieces, const std::uint8_t* data,
                                        std::size_t size, const Poll& poll);

// About how many bytes they take where they are learned, by a sample, and ~0 where their last bits are no noise.
std::uint64_t learned_bytes(const std::vector<Floats<const std::uint8_t>>& pieces);

}  // namespace paretrim::trim
