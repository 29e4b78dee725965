// AVX-512 with VNNI: 16 pixels of four channels in one vpdpbusd.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace avx512_vnni {
namespace {

struct V {
  static constexpr int lanes = 16;
  static constexpr int registers = 32;
  using Sum = __m512i;
  using Pixels = __m512i;
  using Weights = __m512i;

  static Sum set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  static void store(std::int32_t* to, Sum sum) { _mm512_store_si512(to, sum); }
  static Pixels load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static Weights broadcast(std::uint32_t word) {
    Weights weights;
    asm("vpbroadcastd %1, %0" : "=v"(weights) : "r"(word));  // the compiler would turn it into a broadcast from memory
    return weights;
  }
  static Weights broadcast_from(const std::uint32_t* word) { return _mm512_set1_epi32(static_cast<std::int32_t>(*word)); }
  static Sum dot(Sum sum, Pixels pixels, Weights weights) { return _mm512_dpbusd_epi32(sum, pixels, weights); }
  static void keep(Sum& sum) { asm volatile("" : "+v"(sum)); }

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& to, std::uint8_t* out) {
    const __m512i zero_point = _mm512_set1_epi16(static_cast<std::int16_t>(to.zero_point));
    const __m512i low = _mm512_set1_epi8(static_cast<char>(to.low));
    const __m512i high = _mm512_set1_epi8(static_cast<char>(to.high));
    // Beyond int16 the result is a bound anyway; the limit only keeps the conversion inside int32.
    const __m512 limit = _mm512_set1_ps(1048576.0F);
    const __m512i interleave = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512 factors[block];
    for (int c = 0; c < block; ++c) factors[c] = _mm512_set1_ps(multipliers[c]);
    for (int v = 0; v < vectors; ++v) {
      __m512i steps[block];
#pragma GCC unroll 4
      for (int c = 0; c < block; ++c) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + c * stride + v * lanes)), factors[c]);
        steps[c] = _mm512_cvtps_epi32(_mm512_min_ps(scaled, limit));  // a large negative one converts to the smallest int32
      }
      const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zero_point);
      const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), zero_point);
      const __m512i bytes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(first, second), low), high);
      _mm512_store_si512(out + v * lanes * block, _mm512_shuffle_epi8(bytes, interleave));
    }
  }

  static void add_values(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by,
                         std::uint8_t* out) {
    const __m512 first = _mm512_set1_ps(by.first);
    const __m512 second = _mm512_set1_ps(by.second);
    const __m512 constant = _mm512_set1_ps(by.constant);
    const __m512 low = _mm512_set1_ps(by.low);
    const __m512 high = _mm512_set1_ps(by.high);
    for (std::int64_t i = 0; i < count; i += lanes) {
      const auto left = static_cast<std::uint32_t>(std::min<std::int64_t>(count - i, lanes));
      const auto mask = static_cast<__mmask16>((1U << left) - 1U);
      const __m512 from_a = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, a + i)));
      const __m512 from_b = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, b + i)));
      const __m512 sum = _mm512_add_ps(_mm512_mul_ps(from_a, first), _mm512_add_ps(_mm512_mul_ps(from_b, second), constant));
      const __m512i steps = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(sum, low), high));
      _mm512_mask_cvtepi32_storeu_epi8(out + i, mask, steps);
    }
  }

  static void shift_pixels(const std::uint8_t* in, std::int64_t shift, const std::uint16_t* masks, std::int64_t vectors,
                           std::uint8_t fill, std::uint8_t* out) {
    const __m512i filled = _mm512_set1_epi8(static_cast<char>(fill));
    for (std::int64_t v = 0; v < vectors; ++v) {
      const std::uint8_t* source = in + (v * lanes + shift) * block;
      _mm512_store_si512(out + v * lanes * block, _mm512_mask_loadu_epi32(filled, masks[v], source));
    }
  }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    std::int64_t i = 0;
    for (; i + 256 <= count; i += 256) {
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s) {
        sums[s] = _mm512_dpbusd_epi32(sums[s], _mm512_load_si512(a + i + 64 * s), _mm512_load_si512(b + i + 64 * s));
      }
    }
    for (; i < count; i += 64) {
      sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_load_si512(a + i), _mm512_load_si512(b + i));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3])));
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace avx512_vnni

const Kernels& kernels_avx512_vnni() {
  static const Kernels kernels = avx512_vnni::all_kernels("avx512_vnni");
  return kernels;
}

}  // namespace paretrim
