// Histogram of float32 values. The bin width is a power of two.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paretrim {

constexpr int histogram_bits = 12;
constexpr std::size_t histogram_side = std::size_t{1} << histogram_bits;
constexpr int largest_exponent = 126;  // 2^126 and its reciprocal are normal numbers

// Bin i counts values from (i - histogram_side) / 2^exponent up to the next bin. The range [low, high] always includes 0.
struct Histogram {
  double low;
  double high;
  int exponent;
  std::int64_t* counts;  // [2 * histogram_side]

  // Counts the values. If a value falls outside the bins, pairs of bins are merged until they cover it. A non-finite value sets
  // the range to NaN, and nothing more is counted.
  void add(const float* values, std::size_t count);
};

}  // namespace paretrim
