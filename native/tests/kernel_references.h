// References for all kernels of kernels/kernels.h: plain loops that share no code with the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"

namespace paretrim::test::reference {

inline std::uint8_t clamped(float steps, const Requantization& to) {
  const float value = std::rint(steps) + static_cast<float>(to.zero_point);
  return static_cast<std::uint8_t>(std::clamp(value, static_cast<float>(to.low), static_cast<float>(to.high)));
}

// Sum of four products, modulo 2^32.
inline std::uint32_t dot_of_four(const std::uint8_t* activations, std::uint32_t word) {
  std::int32_t sum = 0;
  for (int c = 0; c < block; ++c) sum += activations[c] * static_cast<std::int8_t>(word >> (8 * c) & 0xFFU);
  return static_cast<std::uint32_t>(sum);
}

inline void sparse(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels, int pixels,
                   const std::int32_t* initial, std::int32_t* sums) {
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      std::int32_t& out = sums[c * pixels + p];
      auto sum = static_cast<std::uint32_t>(initial != nullptr ? initial[c] : out);
      for (std::int64_t e = starts[c]; e < starts[c + 1]; ++e) {
        sum += dot_of_four(activations + (entries[e] >> 32U) + p * block, static_cast<std::uint32_t>(entries[e]));
      }
      out = static_cast<std::int32_t>(sum);
    }
  }
}

inline void dense(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count, int grouped, int pixels,
                  const std::int32_t* initial, std::int32_t* sums) {
  for (int g = 0; g < grouped; ++g) {
    for (int p = 0; p < pixels; ++p) {
      auto sum = static_cast<std::uint32_t>(initial[g]);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t* record = records + i * (1 + grouped);
        sum += dot_of_four(activations + record[0] + p * block, record[1 + g]);
      }
      sums[g * pixels + p] = static_cast<std::int32_t>(sum);
    }
  }
}

inline float number_of(std::uint32_t word) {
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Fused multiply-add: product and sum are rounded once.
inline float plus_product(float sum, const std::uint8_t* at, float weight) {
  float number = 0;
  std::memcpy(&number, at, sizeof number);
  return std::fma(number, weight, sum);
}

inline void float_sparse(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels,
                         int pixels, const std::int32_t* initial, float* sums) {
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      float sum = initial != nullptr ? number_of(static_cast<std::uint32_t>(initial[c])) : sums[c * pixels + p];
      for (std::int64_t e = starts[c]; e < starts[c + 1]; ++e) {
        sum = plus_product(sum, activations + (entries[e] >> 32U) + p * block, number_of(static_cast<std::uint32_t>(entries[e])));
      }
      sums[c * pixels + p] = sum;
    }
  }
}

inline void float_dense(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count, int grouped,
                        int pixels, const std::int32_t* initial, float* sums) {
  for (int g = 0; g < grouped; ++g) {
    for (int p = 0; p < pixels; ++p) {
      float sum = number_of(static_cast<std::uint32_t>(initial[g]));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t* record = records + i * (1 + grouped);
        sum = plus_product(sum, activations + record[0] + p * block, number_of(record[1 + g]));
      }
      sums[g * pixels + p] = sum;
    }
  }
}

inline void float_rows(const std::uint8_t* activations, const std::uint32_t* offsets, std::int64_t count, int outputs,
                       const float* weights, const float* initial, float* sums) {
  for (int o = 0; o < outputs; ++o) {
    sums[o] = initial[o];
    for (std::int64_t k = 0; k < count; ++k) sums[o] = plus_product(sums[o], activations + offsets[k], weights[k * outputs + o]);
  }
}

inline void requantize(const std::int32_t* sums, std::int64_t stride, int pixels, const float* multipliers,
                       const Requantization& to, std::uint8_t* out) {
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < block; ++c) out[p * block + c] = clamped(static_cast<float>(sums[c * stride + p]) * multipliers[c], to);
  }
}

inline std::int32_t dot(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
  std::uint32_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<std::uint32_t>(std::int32_t{a[i]} * b[i]);
  return static_cast<std::int32_t>(sum);
}

inline void add(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float second = static_cast<float>(b[i]) * by.second + by.constant;
    out[i] = clamped(static_cast<float>(a[i]) * by.first + second, {0, by.low, by.high});
  }
}

inline void multiply(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
                     std::int64_t repeat, float multiplier, const Requantization& to, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = clamped(static_cast<float>((a[i] - zero_a) * (b[i % repeat] - zero_b)) * multiplier, to);
  }
}

inline void affine(const std::uint8_t* in, std::int32_t zero, std::int64_t count, const float* multiplier, const float* offset,
                   const Requantization& to, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float scaled = static_cast<float>(in[i] - zero) * multiplier[i % block];
    out[i] = clamped(scaled + offset[i % block], to);
  }
}

// Byte c of the result comes from the source whose control selects one for it, otherwise from the constant.
inline void mix(const Mix& by, std::int64_t pixels, std::uint8_t* out) {
  for (std::int64_t p = 0; p < pixels; ++p) {
    std::uint8_t pixel[block];
    for (int c = 0; c < block; ++c) {
      pixel[c] = static_cast<std::uint8_t>(by.constant >> (8 * c));
      for (int s = 0; s < by.count; ++s) {
        const std::uint32_t channel = by.controls[s] >> (8 * c) & 0xFFU;
        if (channel != 0x80) pixel[c] = by.from[s][p * block + channel];
      }
    }
    std::memcpy(out + p * block, pixel, block);
  }
}

inline void shift(const Shift& by, const std::uint8_t* in, std::uint8_t* out) {
  for (std::int64_t plane = 0; plane < by.planes; ++plane) {
    for (std::int64_t p = 0; p < by.vectors * max_lanes; ++p) {
      const bool copied = (by.masks[p / max_lanes] >> (p % max_lanes) & 1) != 0;
      for (std::int64_t c = 0; c < block; ++c) {
        const std::int64_t at = plane * by.in_pitch + (p + by.pixels) * block + c;
        out[plane * by.out_pitch + p * block + c] = copied ? in[at] : by.fill;
      }
    }
  }
}

// A register starts as `fill`. A pick sets the lanes of its mask or, with `maximum`, raises them.
inline void pick(const Pick* picks, std::int64_t count, const std::uint8_t* in, int lanes, std::uint8_t fill, bool maximum,
                 std::uint8_t* out) {
  bool fresh = true;
  for (std::int64_t i = 0; i < count; ++i) {
    if (fresh) std::fill_n(out, lanes * block, fill);
    for (int l = 0; l < lanes; ++l) {
      if ((picks[i].mask >> l & 1) == 0) continue;
      const int index = picks[i].index[l];
      const std::uint8_t* from =
          index < lanes ? in + picks[i].first + index * block : in + picks[i].second + (index - lanes) * block;
      for (int c = 0; c < block; ++c) {
        std::uint8_t& byte = out[l * block + c];
        byte = maximum ? std::max(byte, from[c]) : from[c];
      }
    }
    fresh = picks[i].last;
    if (fresh) out += lanes * block;
  }
}

}  // namespace paretrim::test::reference
