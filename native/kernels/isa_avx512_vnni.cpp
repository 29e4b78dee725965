// AVX-512 with VNNI: 16 pixels of four channels in one vpdpbusd.
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace avx512_vnni {
namespace {

#include "kernels/scalar.inl"

struct V {
  static constexpr int lanes = 16;
  static constexpr int registers = 32;
  using Sum = __m512i;
  using Pixels = __m512i;
  using Weights = __m512i;

  static Sum set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Sum load_sums(const std::int32_t* from) { return _mm512_load_si512(from); }
  static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  static void store(std::int32_t* to, Sum sum) { _mm512_store_si512(to, sum); }
  static Pixels load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static Weights broadcast(std::uint32_t word) {
    Weights weights;
    asm("vpbroadcastd %1, %0" : "=v"(weights) : "r"(word));  // the compiler would turn it into a broadcast from memory
    return weights;
  }
  static Weights broadcast_from(const std::uint32_t* word) { return _mm512_set1_epi32(static_cast<std::int32_t>(*word)); }
  static Sum dot(Sum sum, Pixels pixels, Weights weights) {
    // As an intrinsic, GCC 12 copies accumulators between the turns of a loop (measured: 6 % on small maps).
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(pixels), "v"(weights));
    return sum;
  }

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
    const auto sum_of = [&](__m128i from_a, __m128i from_b) {
      const __m512 added = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(from_b)), second), constant);
      const __m512 sum = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(from_a)), first), added);
      return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(sum, low), high));
    };
    const auto at = [](const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
    // Four groups of 16 are packed at once; packing works within 128-bit quarters, so the quarters are put in order afterwards.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    std::int64_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
      const __m512i words = _mm512_packs_epi32(sum_of(at(a + i), at(b + i)), sum_of(at(a + i + 16), at(b + i + 16)));
      const __m512i others = _mm512_packs_epi32(sum_of(at(a + i + 32), at(b + i + 32)), sum_of(at(a + i + 48), at(b + i + 48)));
      const __m512i bytes = _mm512_packus_epi16(words, others);
      _mm512_storeu_si512(out + i, _mm512_permutexvar_epi32(order, bytes));
    }
    for (; i < count; i += lanes) {
      const auto mask = static_cast<__mmask16>((1U << least<std::int64_t>(count - i, lanes)) - 1U);
      const __m512i steps = sum_of(_mm_maskz_loadu_epi8(mask, a + i), _mm_maskz_loadu_epi8(mask, b + i));
      _mm512_mask_cvtepi32_storeu_epi8(out + i, mask, steps);
    }
  }

  static void shift_pixels(const Shift& shift, const std::uint8_t* in, std::uint8_t* out) {
    const __m512i filled = _mm512_set1_epi8(static_cast<char>(shift.fill));
    in += shift.pixels * block;
    for (std::int64_t plane = 0; plane < shift.planes; ++plane, in += shift.in_pitch, out += shift.out_pitch) {
      for (std::int64_t v = 0; v < shift.vectors; ++v) {
        const __m512i known = _mm512_mask_loadu_epi32(filled, shift.masks[v], in + v * lanes * block);
        _mm512_store_si512(out + v * lanes * block, known);
      }
    }
  }

  static void stride_pixels(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out) {
    if (step != 2) {
      for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * block, in + step * i * block, block);
      return;
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      const std::uint8_t* source = in + 2 * i * block;
      // The second half ends at the last pixel that is wanted, which may be the last there is.
      const __m512i second = _mm512_maskz_loadu_epi32(0x7FFF, source + lanes * block);
      _mm512_storeu_si512(out + i * block, _mm512_permutex2var_epi32(_mm512_loadu_si512(source), even, second));
    }
    if (i < count) {
      const std::uint32_t pixels = 2U * static_cast<std::uint32_t>(count - i) - 1U;  // to read: 1 to 31 - 2
      const auto mask = static_cast<std::uint32_t>((1ULL << pixels) - 1U);
      const std::uint8_t* source = in + 2 * i * block;
      const __m512i first = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), source);
      const __m512i second = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask >> 16U), source + lanes * block);
      const auto wanted = static_cast<__mmask16>((1U << (count - i)) - 1U);
      _mm512_mask_storeu_epi32(out + i * block, wanted, _mm512_permutex2var_epi32(first, even, second));
    }
  }

  static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
    const __m512i filled = _mm512_set1_epi8(static_cast<char>(fill));
    __m512i pixels = filled;
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      const __m512i index = _mm512_load_si512(pick->index);
      const __m512i picked = _mm512_permutex2var_epi32(load(in + pick->first), index, load(in + pick->second));
      pixels = _mm512_mask_mov_epi32(pixels, pick->known, picked);
      if (!pick->last) continue;
      _mm512_store_si512(out, pixels);
      pixels = filled;
      out += lanes * block;
    }
  }

  static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
    __m512i pixels = _mm512_setzero_si512();
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      const __m512i index = _mm512_load_si512(pick->index);
      const __m512i first = load(in + pick->first);
      const __m512i picked = _mm512_maskz_permutex2var_epi32(pick->known, first, index, load(in + pick->second));
      pixels = _mm512_max_epu8(pixels, picked);
      if (!pick->last) continue;
      _mm512_store_si512(out, pixels);
      pixels = _mm512_setzero_si512();
      out += lanes * block;
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
