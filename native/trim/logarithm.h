// Fixed-point logarithms, so that a writer makes the same choices on every machine.
#pragma once

#include <cstdint>

namespace paretrim::trim {

// 2^16 * log2(number), rounded down, for number > 0.
inline std::int64_t logarithm(std::uint64_t number) {
  const int whole = 63 - __builtin_clzll(number);
  std::uint64_t mantissa = whole > 31 ? number >> (whole - 31) : number << (31 - whole);  // in [2^31, 2^32)
  std::int64_t found = whole;
  for (int bit = 0; bit < 16; ++bit) {
    mantissa = mantissa * mantissa >> 31;
    const bool doubled = mantissa >> 32 != 0;
    mantissa >>= doubled;
    found = 2 * found + doubled;
  }
  return found;
}

}  // namespace paretrim::trim
