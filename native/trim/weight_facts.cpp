#include "trim/weight_facts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace paretrim::trim {
namespace {

// The smallest nonzero magnitude of every row; 129 for a row of zeros.
std::vector<int> least_magnitudes(const Weights<const std::int8_t>& weights) {
  const std::int64_t row = weights.channels * weights.height * weights.width;
  std::vector<int> least(static_cast<std::size_t>(weights.outputs), 129);
  for (std::int64_t i = 0; i < weights.outputs * row; ++i) {
    const int magnitude = std::abs(weights.values[i]);
    int& smallest = least[static_cast<std::size_t>(i / row)];
    if (magnitude) smallest = std::min(smallest, magnitude);
  }
  return least;
}

}  // namespace

int smallest_magnitude(float floor, float scale) {
  const float steps = floor / scale;
  return steps > 1.5F ? std::min(static_cast<int>(std::ceil(std::min(steps, 1000.0F) - 0.5F)), 128) : 1;
}

float floor_of(const Weights<const std::int8_t>& weights) {
  if (!weights.scales) return 0;
  const std::vector<int> least = least_magnitudes(weights);
  float floor = std::numeric_limits<float>::max();
  for (std::size_t output = 0; output < least.size(); ++output) {
    if (least[output] < 129) floor = std::min(floor, (static_cast<float>(least[output]) + 0.499F) * weights.scales[output]);
  }
  std::uint32_t bits = 0;
  std::memcpy(&bits, &floor, sizeof bits);
  bits &= 0xffff0000;
  std::memcpy(&floor, &bits, sizeof bits);
  // The scales may be arbitrary. With a subnormal one, the division in smallest_magnitude is too inexact, so there is no floor.
  for (std::size_t output = 0; output < least.size(); ++output) {
    if (smallest_magnitude(floor, weights.scales[output]) > least[output]) return 0;
  }
  return floor;
}

bool worth_sides(const Weights<const std::int8_t>& weights) {
  std::array<std::array<bool, 129>, 2> occurs = {};
  const std::int64_t count = weights.outputs * weights.channels * weights.height * weights.width;
  for (std::int64_t i = 0; i < count; ++i) occurs[weights.values[i] < 0][std::abs(weights.values[i])] = true;
  const auto some = std::count(occurs[0].begin(), occurs[0].end(), true) + std::count(occurs[1].begin(), occurs[1].end(), true);
  occurs[0][0] = false;
  return some <= 64 && occurs[0] != occurs[1];
}

bool worth_blocks(const Weights<const std::int8_t>& weights) {
  const std::int64_t area = weights.height * weights.width;
  if (weights.channels < block) return false;
  std::int64_t blocks = 0, empty = 0;
  for (std::int64_t output = 0; output < weights.outputs; ++output) {
    for (std::int64_t first = 0; first < weights.channels; first += block) {
      for (std::int64_t position = 0; position < area; ++position, ++blocks) {
        bool any = false;
        for (std::int64_t channel = first; channel < std::min(first + block, weights.channels); ++channel) {
          any = any || weights.values[(output * weights.channels + channel) * area + position] != 0;
        }
        empty += !any;
      }
    }
  }
  return 8 * empty > blocks;
}

std::vector<std::int8_t> listed_values(const Weights<const std::int8_t>& weights) {
  const std::int64_t count = weights.outputs * weights.channels * weights.height * weights.width;
  std::array<bool, 256> occurs = {};
  for (std::int64_t i = 0; i < count; ++i) occurs[static_cast<std::size_t>(weights.values[i] + 128)] = true;
  std::vector<std::int8_t> values;
  for (int value = -128; value < 128; ++value) {
    if (value != 0 && occurs[static_cast<std::size_t>(value + 128)]) values.push_back(static_cast<std::int8_t>(value));
  }
  if (values.size() > max_listed_values) values.clear();
  return values;
}

}  // namespace paretrim::trim
