// Plain C++: what every other instruction set is compared with, and what runs where none of them does.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace plain {
namespace {

struct V {
  static constexpr int lanes = 4;
  static constexpr int registers = 12;
  struct Sum {
    std::uint32_t lane[lanes];  // unsigned: sums over raw activations may pass int32 on the way to a result that fits
  };
  struct Pixels {
    std::uint8_t byte[lanes * block];
  };
  struct Weights {
    std::int8_t byte[block];
  };

  static Sum set(std::int32_t value) {
    Sum sum;
    for (auto& lane : sum.lane) lane = static_cast<std::uint32_t>(value);
    return sum;
  }
  static Sum add(Sum a, const Sum& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] += b.lane[l];
    return a;
  }
  static void store(std::int32_t* to, const Sum& sum) { std::memcpy(to, sum.lane, sizeof sum.lane); }
  static Pixels load(const std::uint8_t* from) {
    Pixels pixels;
    std::memcpy(pixels.byte, from, sizeof pixels.byte);
    return pixels;
  }
  static Weights broadcast(std::uint32_t word) {
    Weights weights;
    std::memcpy(weights.byte, &word, sizeof weights.byte);
    return weights;
  }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, const Pixels& pixels, const Weights& weights) {
    for (int l = 0; l < lanes; ++l) {
      std::int32_t product = 0;
      for (int c = 0; c < block; ++c) product += pixels.byte[l * block + c] * weights.byte[c];
      sum.lane[l] += static_cast<std::uint32_t>(product);
    }
    return sum;
  }
  static void keep(Sum& sum) { asm volatile("" : "+m"(sum)); }

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& to, std::uint8_t* out) {
    const auto low = static_cast<float>(to.low);
    const auto high = static_cast<float>(to.high);
    for (int c = 0; c < block; ++c) {
      for (int p = 0; p < vectors * lanes; ++p) {
        const float scaled = static_cast<float>(sums[c * stride + p]) * multipliers[c];
        const float shifted = std::rint(scaled) + static_cast<float>(to.zero_point);
        out[p * block + c] = static_cast<std::uint8_t>(std::min(std::max(shifted, low), high));
      }
    }
  }

  static void add_values(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by,
                         std::uint8_t* out) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float sum = static_cast<float>(a[i]) * by.first + (static_cast<float>(b[i]) * by.second + by.constant);
      out[i] = static_cast<std::uint8_t>(std::rint(std::min(std::max(sum, by.low), by.high)));
    }
  }

  static void shift_pixels(const std::uint8_t* in, std::int64_t shift, const std::uint16_t* masks, std::int64_t vectors,
                           std::uint8_t fill, std::uint8_t* out) {
    for (std::int64_t p = 0; p < vectors * most_lanes; ++p, out += block) {
      if ((masks[p / most_lanes] >> (p % most_lanes) & 1) != 0) {
        std::memcpy(out, in + (p + shift) * block, block);
      } else {
        std::memset(out, fill, block);
      }
    }
  }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    std::uint32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += static_cast<std::uint32_t>(a[i] * b[i]);
    return static_cast<std::int32_t>(sum);
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace plain

const Kernels& kernels_plain() {
  static const Kernels kernels = plain::all_kernels("plain");
  return kernels;
}

}  // namespace paretrim
