// Tests of the training kernels, against scalar references written from the definitions in kernels/training.h.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "tests/float_kernel_tests.h"

namespace paretrim::test {

inline float float_of(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::uint16_t bfloat16_of(float value) {  // rounds to nearest, ties to even
  const std::uint32_t bits = word_of(value);
  if (std::isnan(value)) return 0x7FC0;
  const std::uint32_t below = bits >> 16U;
  const std::uint32_t rest = bits & 0xFFFFU;
  return static_cast<std::uint16_t>(below + (rest > 0x8000U || (rest == 0x8000U && below % 2 == 1) ? 1U : 0U));
}

inline float real_of(float value) { return value; }
inline float real_of(std::uint16_t bits) { return float_of(std::uint32_t{bits} << 16U); }
inline void put_real(float& to, float value) { to = value; }
inline void put_real(std::uint16_t& to, float value) { to = bfloat16_of(value); }

namespace reference {

inline float clamp(float value, float low, float high) {
  return std::isnan(value) ? value : std::min(std::max(value, low), high);
}

inline float quantized(GridKind kind, float v, const RealGrid& grid) {
  const float zero = kind == GridKind::levels || kind == GridKind::offset ? 0.0F : -0.0F;  // adding +0 turns -0 into +0
  float steps = v / grid.step;
  if (kind == GridKind::steps) steps = v * static_cast<float>(1.0 / static_cast<double>(grid.step));
  if (kind == GridKind::levels) steps = v * (1.0F / grid.step);
  if (kind == GridKind::ends) steps = clamp(v, grid.low * grid.step, grid.high * grid.step) / grid.step;
  return (clamp(std::nearbyint(steps), grid.low, grid.high) + zero) * grid.step;
}

// The share of the gradient that passes, then the factor in each of the two sums.
inline std::array<float, 3> factors(GridKind kind, float v, const RealGrid& grid) {
  const float to = quantized(kind, v, grid);
  if (kind == GridKind::steps || kind == GridKind::levels) {
    const float level = std::nearbyint(v * (1.0F / grid.step));
    const bool outside = kind == GridKind::levels ? level < grid.low || level > grid.high
                                                  : v <= (grid.low - 0.5F) * grid.step || v >= (grid.high + 0.5F) * grid.step;
    return outside ? std::array<float, 3>{0.0F, to, 0.0F} : std::array<float, 3>{1.0F, to - v, 0.0F};
  }
  if (kind == GridKind::ends) {
    const float first = grid.low * grid.step;
    const float last = grid.high * grid.step;
    if (v < first) return {0.0F, 1.0F, 0.0F};
    if (v > last) return {0.0F, 0.0F, 1.0F};
    return {v == first || v == last ? 0.5F : 1.0F, v == first ? 0.5F : 0.0F, v == last ? 0.5F : 0.0F};
  }
  const float place = (v - grid.offset) / grid.step;
  const float top = grid.high - grid.low;
  const float rounded = std::nearbyint(clamp(place, 0.0F, top));
  return place >= 0.0F && place <= top ? std::array<float, 3>{1.0F, rounded - place, 0.0F}
                                       : std::array<float, 3>{0.0F, rounded, 1.0F};
}

}  // namespace reference

inline RealGrid real_grid(Random& random) {
  RealGrid grid;
  grid.step = random.chance(50) ? std::ldexp(1.0F, static_cast<int>(random.between(-9, 3))) : std::exp(random.real(-9.0F, 3.0F));
  grid.low = random.chance(50) ? 0.0F : static_cast<float>(-random.between(0, 127));
  grid.high = static_cast<float>(random.between(1, 255));
  grid.offset = random.chance(30) ? 0.0F : grid.low * grid.step * random.real(0.9F, 1.1F);
  return grid;
}

// Values around the grid: on its levels, halfway between two, on its ends, and infinite ones.
inline float real_number(const RealGrid& grid, Random& random) {
  const float level =
      static_cast<float>(random.between(static_cast<std::int64_t>(grid.low) - 3, static_cast<std::int64_t>(grid.high) + 3));
  if (random.chance(10)) return grid.step * level;
  if (random.chance(10)) return grid.step * (level + 0.5F);
  if (random.chance(4)) return random.chance(50) ? grid.step * grid.low : grid.step * grid.high;
  if (random.chance(2)) return (random.chance(50) ? 1.0F : -1.0F) * std::numeric_limits<float>::infinity();
  return grid.step * (level + random.real(-0.5F, 0.5F));
}

template <typename T>
std::string fake_quantize(const Kernels& kernels, Random& random, GridKind kind, Real type) {
  const RealGrid grid = real_grid(random);
  const std::int64_t count = random.between(0, random.chance(10) ? 3000 : 70);
  Input<T> x(count, random);
  Output<T> out(count, random);
  for (std::int64_t i = 0; i < count; ++i) {
    put_real(x.data()[i], random.chance(1) ? std::numeric_limits<float>::quiet_NaN() : real_number(grid, random));
    put_real(out.expected()[i], reference::quantized(kind, real_of(x.data()[i]), grid));
  }
  kernels.training.forward[static_cast<int>(kind)][static_cast<int>(type)](x.data(), count, grid, out.found());
  for (std::int64_t i = 0; i < count; ++i) {  // the payload of a NaN does not matter
    if (std::isnan(real_of(out.found()[i])) && std::isnan(real_of(out.expected()[i]))) out.found()[i] = out.expected()[i];
  }
  return out.difference();
}

template <typename T>
std::string fake_quantize_backward(const Kernels& kernels, Random& random, GridKind kind, Real type) {
  const RealGrid grid = real_grid(random);
  const std::int64_t count = random.between(0, random.chance(10) ? 3000 : 70);
  Input<T> x(count, random), gradient(count, random);
  Output<T> passed(count, random);
  Output<double> sums(max_sums, random);
  const int known = kind == GridKind::steps || kind == GridKind::levels ? 1 : 2;
  float lanes[max_sums][16] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    float v = real_number(grid, random);
    if (std::isinf(v)) v = grid.step * grid.high * 1e6F;  // sums that include infinities are unspecified
    put_real(x.data()[i], v);
    put_real(gradient.data()[i], random.real(-2.0F, 2.0F));
    const std::array<float, 3> factors = reference::factors(kind, real_of(x.data()[i]), grid);
    const float g = real_of(gradient.data()[i]);
    put_real(passed.expected()[i], factors[0] == 0.0F ? 0.0F : g * factors[0]);
    for (int k = 0; k < known; ++k) lanes[k][i % 16] += g * factors[static_cast<std::size_t>(k) + 1];
  }
  for (int k = 0; k < known; ++k) {
    sums.expected()[k] = 0;
    for (const float lane : lanes[k]) sums.expected()[k] += static_cast<double>(lane);
  }
  kernels.training.backward[static_cast<int>(kind)][static_cast<int>(type)](x.data(), gradient.data(), count, grid,
                                                                            passed.found(), sums.found());
  const std::string wrong = passed.difference();
  return wrong.empty() ? sums.difference(known) : "passed: " + wrong;
}

template <typename T>
std::string real_range(const Kernels& kernels, Random& random, Real type) {
  const std::int64_t count = random.between(1, random.chance(10) ? 3000 : 70);
  Input<T> x(count, random);
  const bool none = random.chance(20);
  const std::int64_t at = random.between(0, count - 1);
  float low = std::numeric_limits<float>::infinity();
  float high = -low;
  for (std::int64_t i = 0; i < count; ++i) {
    put_real(x.data()[i], number(random));
    low = std::min(low, real_of(x.data()[i]));
    high = std::max(high, real_of(x.data()[i]));
  }
  if (none) put_real(x.data()[at], std::numeric_limits<float>::quiet_NaN());
  float found[2];
  kernels.training.range[static_cast<int>(type)](x.data(), count, found);
  const bool right = none ? std::isnan(found[0]) && std::isnan(found[1]) : found[0] == low && found[1] == high;
  return right ? ""
               : "range is " + std::to_string(found[0]) + " to " + std::to_string(found[1]) + ", expected " +
                     (none ? "NaN" : std::to_string(low) + " to " + std::to_string(high));
}

inline std::string fake_quantize(const Kernels& kernels, Random& random) {
  const auto kind = static_cast<GridKind>(random.between(0, grid_kinds - 1));
  return random.chance(50) ? fake_quantize<float>(kernels, random, kind, Real::float32)
                           : fake_quantize<std::uint16_t>(kernels, random, kind, Real::bfloat16);
}

inline std::string fake_quantize_backward(const Kernels& kernels, Random& random) {
  const auto kind = static_cast<GridKind>(random.between(0, grid_kinds - 1));
  return random.chance(50) ? fake_quantize_backward<float>(kernels, random, kind, Real::float32)
                           : fake_quantize_backward<std::uint16_t>(kernels, random, kind, Real::bfloat16);
}

inline std::string real_ranges(const Kernels& kernels, Random& random) {
  return random.chance(50) ? real_range<float>(kernels, random, Real::float32)
                           : real_range<std::uint16_t>(kernels, random, Real::bfloat16);
}

}  // namespace paretrim::test
