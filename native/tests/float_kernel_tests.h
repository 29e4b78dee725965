// Tests of the float32 kernels, and the random values that kernel_test_main.cpp draws too.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernel_buffers.h"
#include "tests/kernel_references.h"

namespace paretrim::test {

// Factors over many orders of magnitude. Some are powers of two, whose products often lie exactly halfway between two integers.
inline float factor(Random& random) {
  if (random.chance(30)) return std::ldexp(1.0F, static_cast<int>(random.between(-12, 1)));
  return std::exp(random.real(-14.0F, random.chance(10) ? 60.0F : 2.0F));
}

template <typename Tiles>
int vectors_of(const Tiles& tiles, Random& random) {
  std::vector<int> known;
  for (int vectors = 1; vectors <= max_vectors; ++vectors) {
    if (tiles[vectors] != nullptr) known.push_back(vectors);
  }
  return known[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(known.size()) - 1))];
}

inline std::uint32_t word_of(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

// Finite numbers of all magnitudes.
inline float number(Random& random) {
  return random.chance(10) ? 0.0F : random.real(-1.0F, 1.0F) * factor(random) / (1.0F + factor(random));
}

inline void fill(float* values, std::int64_t count, Random& random) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = number(random);
}

inline std::string float_sparse(const Kernels& kernels, Random& random) {
  const int vectors = vectors_of(kernels.float_sparse, random);
  const int pixels = vectors * kernels.lanes;
  const std::int64_t there = pixels + random.between(0, 40);
  const auto channels = static_cast<int>(random.between(1, 9));
  Input<float> numbers(there, random);
  fill(numbers.data(), there, random);
  std::vector<std::int64_t> starts{random.between(0, 3)};
  for (int c = 0; c < channels; ++c) starts.push_back(starts.back() + random.between(0, random.chance(20) ? 0 : 40));
  Input<Entry> entries(starts.back(), random);
  for (std::int64_t e = 0; e < starts.back(); ++e) {
    entries.data()[e] = static_cast<Entry>(random.between(0, there - pixels) * block) << 32U | word_of(number(random));
  }
  Input<std::int32_t> initial(channels, random);
  for (int c = 0; c < channels; ++c) initial.data()[c] = static_cast<std::int32_t>(word_of(number(random)));
  const std::int32_t* begin = random.chance(50) ? initial.data() : nullptr;
  Output<float> sums(std::int64_t{channels} * pixels, random);
  fill(sums.found(), std::int64_t{channels} * pixels, random);
  std::copy_n(sums.found(), channels * pixels, sums.expected());
  const auto* activations = reinterpret_cast<const std::uint8_t*>(numbers.data());
  kernels.float_sparse[vectors](activations, entries.data(), starts.data(), channels, begin,
                                reinterpret_cast<std::int32_t*>(sums.found()));
  reference::float_sparse(activations, entries.data(), starts.data(), channels, pixels, begin, sums.expected());
  return sums.difference();
}

inline std::string float_dense(const Kernels& kernels, Random& random) {
  int grouped = 1 << random.between(1, 4);
  while (kernels.float_dense[grouped][1] == nullptr) grouped /= 2;
  const int vectors = vectors_of(kernels.float_dense[grouped], random);
  const int pixels = vectors * kernels.lanes;
  const std::int64_t there = pixels + random.between(0, 40);
  const std::int64_t count = random.between(0, 50);
  Input<float> numbers(there, random);
  fill(numbers.data(), there, random);
  Input<std::uint32_t> records(count * (1 + grouped), random);
  for (std::int64_t i = 0; i < count * (1 + grouped); ++i) {
    const bool offset = i % (1 + grouped) == 0;
    records.data()[i] = offset ? static_cast<std::uint32_t>(random.between(0, there - pixels) * block) : word_of(number(random));
  }
  Input<std::int32_t> initial(grouped, random);
  for (int g = 0; g < grouped; ++g) initial.data()[g] = static_cast<std::int32_t>(word_of(number(random)));
  Output<float> sums(std::int64_t{grouped} * pixels, random);
  const auto* activations = reinterpret_cast<const std::uint8_t*>(numbers.data());
  kernels.float_dense[grouped][vectors](activations, records.data(), count, initial.data(),
                                        reinterpret_cast<std::int32_t*>(sums.found()));
  reference::float_dense(activations, records.data(), count, grouped, pixels, initial.data(), sums.expected());
  return sums.difference();
}

inline std::string float_rows(const Kernels& kernels, Random& random) {
  const auto rows = static_cast<int>(random.between(1, max_rows));
  const int outputs = rows * max_lanes;
  const std::int64_t there = random.between(1, 50);
  const std::int64_t count = random.between(0, 50);
  Input<float> numbers(there, random), weights(count * outputs, random), initial(outputs, random);
  fill(numbers.data(), there, random);
  fill(weights.data(), count * outputs, random);
  fill(initial.data(), outputs, random);
  Input<std::uint32_t> offsets(count, random);
  for (std::int64_t k = 0; k < count; ++k) offsets.data()[k] = static_cast<std::uint32_t>(random.between(0, there - 1) * block);
  Output<float> sums(outputs, random);
  const auto* activations = reinterpret_cast<const std::uint8_t*>(numbers.data());
  kernels.float_rows[rows](activations, offsets.data(), count, weights.data(), initial.data(), sums.found());
  reference::float_rows(activations, offsets.data(), count, outputs, weights.data(), initial.data(), sums.expected());
  return sums.difference();
}

inline std::string finish_floats(const Kernels& kernels, Random& random) {
  const std::int64_t count = random.between(0, 8) * kernels.lanes;
  Input<float> sums(count, random), other(count, random);
  fill(sums.data(), count, random);
  fill(other.data(), count, random);
  const float low = random.chance(50)   ? -std::numeric_limits<float>::infinity()
                    : random.chance(50) ? 0.0F
                                        : random.real(-1.0F, 0.0F);
  const float high = random.chance(50) ? std::numeric_limits<float>::infinity() : random.real(0.0F, 1.0F);
  const float* added = random.chance(50) ? other.data() : nullptr;
  Output<float> out(count, random);
  kernels.finish_floats(sums.data(), added, count, low, high, out.found());
  for (std::int64_t i = 0; i < count; ++i) {
    out.expected()[i] = std::min(std::max(sums.data()[i] + (added ? added[i] : 0.0F), low), high);
  }
  return out.difference();
}

}  // namespace paretrim::test
