// Weights for kernels that add pairs of products in 16 bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "kernels/kernels.h"

namespace paretrim {

// Two products of int8 weights and uint8 values fit in 16 bits if the magnitudes of the weights add up to at most this.
inline constexpr std::int32_t largest_pair = 32767 / 255;

// Moves what such a kernel could not add from a word of four weights into a second word, so that the two words together give the
// same sum: in a pair that is too large, each weight keeps at most half of `largest_pair`. Returns the second word, 0 for almost
// all weights of trained networks.
inline std::uint32_t split_pairs(std::uint32_t& word) {
  std::uint32_t rest = 0;
  for (int pair = 0; pair < block; pair += 2) {
    std::int32_t weights[2];
    for (int i = 0; i < 2; ++i) weights[i] = static_cast<std::int8_t>(word >> 8 * (pair + i));
    if (std::abs(weights[0]) + std::abs(weights[1]) <= largest_pair) continue;
    for (int i = 0; i < 2; ++i) {
      const std::int32_t kept = std::clamp(weights[i], -largest_pair / 2, largest_pair / 2);
      const int shift = 8 * (pair + i);
      word = (word & ~(0xFFU << shift)) | static_cast<std::uint32_t>(static_cast<std::uint8_t>(kept)) << shift;
      rest |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(weights[i] - kept)) << shift;
    }
  }
  return rest;
}

}  // namespace paretrim
