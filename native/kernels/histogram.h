// Counting float32 values in bins that are a power of two wide.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paretrim {

constexpr int histogram_bits = 12;
constexpr std::size_t histogram_side = std::size_t{1} << histogram_bits;
constexpr int largest_exponent = 126;  // 2^126 and its reciprocal are normal numbers

// Bin i holds values from (i - histogram_side) / 2^exponent on. The range includes 0.
struct Histogram {
  double low;
  double high;
  int exponent;
  std::int64_t* counts;  // [2 * histogram_side]

  // Counts the values. Pairs of bins become one until they cover the range. A value that is not finite makes the range so, and
  // nothing is counted any more.
  void add(const float* values, std::size_t count);
};

}  // namespace paretrim
