// Plain C++: what every other instruction set is compared with, and what runs where none of them does.
#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace plain {
namespace {

#include "kernels/scalar.inl"

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
  static Sum load_sums(const std::int32_t* from) {
    Sum sum;
    std::memcpy(sum.lane, from, sizeof sum.lane);
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

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& to, std::uint8_t* out) {
    const auto low = static_cast<float>(to.low);
    const auto high = static_cast<float>(to.high);
    for (int c = 0; c < block; ++c) {
      for (int p = 0; p < vectors * lanes; ++p) {
        const float scaled = static_cast<float>(sums[c * stride + p]) * multipliers[c];
        const float shifted = rounded(scaled) + static_cast<float>(to.zero_point);
        out[p * block + c] = static_cast<std::uint8_t>(least(most(shifted, low), high));
      }
    }
  }

  static void add_values(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by,
                         std::uint8_t* out) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float sum = static_cast<float>(a[i]) * by.first + (static_cast<float>(b[i]) * by.second + by.constant);
      out[i] = static_cast<std::uint8_t>(rounded(least(most(sum, by.low), by.high)));
    }
  }

  static void shift_pixels(const Shift& shift, const std::uint8_t* in, std::uint8_t* out) {
    for (std::int64_t plane = 0; plane < shift.planes; ++plane) {
      const std::uint8_t* from = in + plane * shift.in_pitch;
      std::uint8_t* to = out + plane * shift.out_pitch;
      for (std::int64_t p = 0; p < shift.vectors * most_lanes; ++p, to += block) {
        if ((shift.masks[p / most_lanes] >> (p % most_lanes) & 1) != 0) {
          std::memcpy(to, from + (p + shift.pixels) * block, block);
        } else {
          std::memset(to, shift.fill, block);
        }
      }
    }
  }

  static void stride_pixels(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out) {
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * block, in + step * i * block, block);
  }

  static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
    std::memset(out, fill, lanes * block);
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      for (int l = 0; l < lanes; ++l) {
        if ((pick->known >> l & 1) == 0) continue;
        const int index = pick->index[l];
        const std::uint8_t* run = index < lanes ? in + pick->first : in + pick->second;
        std::memcpy(out + l * block, run + index % lanes * block, block);
      }
      if (!pick->last) continue;
      out += lanes * block;
      if (pick + 1 < picks + count) std::memset(out, fill, lanes * block);
    }
  }

  static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
    bool begins = true;
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      if (begins) std::memset(out, 0, lanes * block);
      for (int b = 0; b < lanes * block; ++b) {
        const int lane = b / block;
        if ((pick->known >> lane & 1) == 0) continue;
        const int index = pick->index[lane];
        const std::uint8_t* run = index < lanes ? in + pick->first : in + pick->second;
        out[b] = most(out[b], run[index % lanes * block + b % block]);
      }
      begins = pick->last;
      if (pick->last) out += lanes * block;
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
