#include "kernels/histogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace paretrim {
namespace {

constexpr std::size_t block = 4096;         // values per range scan, so that they are still in L1 when counted
constexpr std::size_t chunk = 1024 * 1024;  // values per 32-bit partial count
constexpr std::size_t bins = 2 * histogram_side;
constexpr std::size_t partial = 4;  // interleaved counters per bin, so that equal neighbours do not wait for one another's store
constexpr std::int32_t sign = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t infinity = 0x7F800000;

struct Bounds {
  float low;
  float high;
  bool finite;
};

// Floats of one sign order like their bits as integers, and compilers vectorise an integer maximum.
Bounds bounds_of(const float* values, std::size_t count) {
  std::int32_t highest = 0, lowest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::int32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    highest = std::max(highest, bits);
    lowest = std::max(lowest, bits ^ sign);
  }
  Bounds found{0, 0, std::max(highest, lowest) < infinity};
  std::memcpy(&found.high, &highest, sizeof highest);
  lowest ^= sign;
  std::memcpy(&found.low, &lowest, sizeof lowest);
  return found;
}

// Counters of one chunk. They are added to the histogram at the end of the chunk or before the bins change.
class PartialCounts {
 public:
  void count(const float* values, std::size_t number, int exponent) {
    const float factor = std::ldexp(1.0F, exponent);
    std::array<std::int32_t, block> places;
    for (std::size_t i = 0; i < number; ++i) {
      const float scaled = values[i] * factor;
      const auto whole = static_cast<std::int32_t>(scaled);  // towards 0
      places[i] = whole - static_cast<std::int32_t>(static_cast<float>(whole) > scaled);
    }
    std::uint32_t* const zero = counts_.data() + histogram_side;
    std::size_t i = 0;
    for (; i + partial <= number; i += partial) {
      for (std::size_t j = 0; j < partial; ++j) ++zero[places[i + j] + static_cast<std::ptrdiff_t>(j * bins)];
    }
    for (; i < number; ++i) ++zero[places[i]];
  }

  void move_to(std::int64_t* counts) {
    for (std::size_t bin = 0; bin < bins; ++bin) {
      for (std::size_t i = 0; i < partial; ++i) counts[bin] += counts_[i * bins + bin];
    }
    std::fill(counts_.begin(), counts_.end(), 0U);
  }

 private:
  std::vector<std::uint32_t> counts_ = std::vector<std::uint32_t>(partial * bins);
};

void merge_pairs(std::int64_t* counts) {
  if (std::all_of(counts, counts + bins, [](std::int64_t one) { return one == 0; })) return;
  std::array<std::int64_t, bins> merged{};
  for (std::size_t bin = 0; bin < histogram_side; ++bin) {
    merged[histogram_side / 2 + bin] = counts[2 * bin] + counts[2 * bin + 1];
  }
  std::copy(merged.begin(), merged.end(), counts);
}

}  // namespace

void Histogram::add(const float* values, std::size_t count) {
  PartialCounts counted;
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t number = std::min(block, count - first);
    const Bounds bounds = bounds_of(values + first, number);
    if (!bounds.finite || !std::isfinite(low) || !std::isfinite(high)) {
      low = high = std::nan("");
      break;
    }
    low = std::min(low, static_cast<double>(bounds.low));
    high = std::max(high, static_cast<double>(bounds.high));
    const double reach = std::max(-low, high);
    int above = 0;  // the smallest exponent with reach < 2^above
    std::frexp(reach, &above);
    if (reach > 0 && exponent > histogram_bits - above) {
      counted.move_to(counts);
      for (; exponent > histogram_bits - above; --exponent) merge_pairs(counts);
    }
    counted.count(values + first, number, exponent);
    if ((first + number) % chunk == 0) counted.move_to(counts);
  }
  counted.move_to(counts);
}

}  // namespace paretrim
