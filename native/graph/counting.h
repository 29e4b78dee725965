// Sums over many weights.
#pragma once

#include <algorithm>
#include <cstdint>

namespace paretrim {

// Sum of of(value), each at most 128. Partial sums have 32 bits, which lets the compiler vectorise well.
template <typename Of>
std::int64_t sum_in_parts(const std::int8_t* values, std::int64_t count, const Of& of) {
  constexpr std::int64_t part = 1 << 20;
  std::int64_t sum = 0;
  for (std::int64_t first = 0; first < count; first += part) {
    std::int32_t here = 0;
    for (std::int64_t i = first; i < std::min(first + part, count); ++i) here += of(values[i]);
    sum += here;
  }
  return sum;
}

}  // namespace paretrim
