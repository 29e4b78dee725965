// AVX-512 with VNNI: one vpdpbusd processes 16 pixels of four channels.
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
  static constexpr bool pairs_in_16_bits = false;
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
    asm("vpbroadcastd %1, %0" : "=v"(weights) : "r"(word));  // the compiler would turn an intrinsic into a load-broadcast
    return weights;
  }
  static Weights broadcast_from(const std::uint32_t* word) { return _mm512_set1_epi32(static_cast<std::int32_t>(*word)); }
  static Sum dot(Sum sum, Pixels pixels, Weights weights) {
    // With the intrinsic, GCC 12 copies accumulators between loop iterations (measured: 6 % slower on small feature maps).
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(pixels), "v"(weights));
    return sum;
  }

  // Beyond int16 the result is clamped anyway, so the minimum only has to keep the conversion within int32. Large negative values
  // convert to INT32_MIN, which is right.
  static __m512i steps_of(__m512 value) { return _mm512_cvtps_epi32(_mm512_min_ps(value, _mm512_set1_ps(1048576.0F))); }

  // Packs a, b, c and d into bytes: in each 128-bit quarter, four of a, then four each of b, c and d.
  static __m512i clamped(__m512i a, __m512i b, __m512i c, __m512i d, const Requantization& to) {
    const __m512i zero_point = _mm512_set1_epi16(static_cast<std::int16_t>(to.zero_point));
    const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_point);
    const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_point);
    const __m512i low = _mm512_set1_epi8(static_cast<char>(to.low));
    const __m512i high = _mm512_set1_epi8(static_cast<char>(to.high));
    return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(first, second), low), high);
  }

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& given, std::uint8_t* out) {
    const Requantization to = given;  // a copy, so that the stores below cannot alias it
    const __m512i interleave = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512 factors[block];
    for (int c = 0; c < block; ++c) factors[c] = _mm512_set1_ps(multipliers[c]);
    for (int v = 0; v < vectors; ++v) {
      __m512i steps[block];
#pragma GCC unroll 4
      for (int c = 0; c < block; ++c) {
        steps[c] = steps_of(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + c * stride + v * lanes)), factors[c]));
      }
      const __m512i bytes = clamped(steps[0], steps[1], steps[2], steps[3], to);
      _mm512_store_si512(out + v * lanes * block, _mm512_shuffle_epi8(bytes, interleave));
    }
  }

  using Floats = __m512;
  static Floats all(float value) { return _mm512_set1_ps(value); }
  static Floats load_floats(const float* from) { return _mm512_loadu_ps(from); }
  static Floats floats(const std::uint8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fused(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }
  static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static void store_floats(float* to, Floats values) { _mm512_storeu_ps(to, values); }
  static void store_rounded(Floats a, Floats b, Floats c, Floats d, const Requantization& to, std::uint8_t* out) {
    // Packing interleaves within 128-bit quarters; the permutation restores the order.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = clamped(steps_of(a), steps_of(b), steps_of(c), steps_of(d), to);
    _mm512_storeu_si512(out, _mm512_permutexvar_epi32(order, bytes));
  }

  using Bytes = __m512i;
  static Bytes load_bytes(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static void store_bytes(std::uint8_t* to, Bytes bytes) { _mm512_storeu_si512(to, bytes); }
  static Bytes same_pixels(std::uint32_t pixel) { return _mm512_set1_epi32(static_cast<std::int32_t>(pixel)); }
  static Bytes control(std::uint32_t channels) {
    return _mm512_add_epi8(same_pixels(channels), _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C)));
  }
  static Bytes shuffled(Bytes bytes, Bytes control) { return _mm512_shuffle_epi8(bytes, control); }
  static Bytes either(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }

  // Looks up the low four bits of the index in each row of 16 entries; a mask from the upper four bits selects the row.
  struct Table {
    __m512i rows[16];
    explicit Table(const std::uint8_t* entries) {
      for (int r = 0; r < 16; ++r) {
        rows[r] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries + 16 * r)));
      }
    }
    Bytes operator[](Bytes index) const {
      const __m512i column = _mm512_and_si512(index, _mm512_set1_epi8(0x0F));
      const __m512i row = _mm512_and_si512(_mm512_srli_epi16(index, 4), _mm512_set1_epi8(0x0F));
      __m512i found = _mm512_shuffle_epi8(rows[0], column);
#pragma GCC unroll 16
      for (int r = 1; r < 16; ++r) {
        const __mmask64 here = _mm512_cmpeq_epi8_mask(row, _mm512_set1_epi8(static_cast<char>(r)));
        found = _mm512_mask_shuffle_epi8(found, here, rows[r], column);
      }
      return found;
    }
  };

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
      // The second load stops at the last pixel needed, which may be the last one in memory.
      const __m512i second = _mm512_maskz_loadu_epi32(0x7FFF, source + lanes * block);
      _mm512_storeu_si512(out + i * block, _mm512_permutex2var_epi32(_mm512_loadu_si512(source), even, second));
    }
    if (i < count) {
      const std::uint32_t pixels = 2U * static_cast<std::uint32_t>(count - i) - 1U;  // to read: at most 29
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
      pixels = _mm512_mask_mov_epi32(pixels, pick->mask, picked);
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
      const __m512i picked = _mm512_maskz_permutex2var_epi32(pick->mask, first, index, load(in + pick->second));
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

// Keeps the 256-byte table in four registers. One instruction of AVX-512 VBMI, which not every CPU with VNNI has, looks up 64
// bytes in half of the table.
__attribute__((target("avx512vbmi"))) void look_up_wide(const std::uint8_t* in, std::int64_t count, const std::uint8_t* table,
                                                        std::uint8_t* out) {
  __m512i entries[4];
  for (int i = 0; i < 4; ++i) entries[i] = _mm512_loadu_si512(table + 64 * i);
  for (std::int64_t i = 0; i < count; i += 64) {
    const __mmask64 wanted = count - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (count - i)) - 1;
    const __m512i index = _mm512_maskz_loadu_epi8(wanted, in + i);
    const __m512i low = _mm512_permutex2var_epi8(entries[0], index, entries[1]);  // takes the index modulo 128
    const __m512i high = _mm512_permutex2var_epi8(entries[2], index, entries[3]);
    _mm512_mask_storeu_epi8(out + i, wanted, _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(index), high));
  }
}

}  // namespace
}  // namespace avx512_vnni

const Kernels& kernels_avx512_vnni() {
  static const Kernels kernels = avx512_vnni::all_kernels("avx512_vnni");
  return kernels;
}

const Kernels& kernels_avx512_vnni_vbmi() {
  static const Kernels kernels = [] {
    Kernels same = kernels_avx512_vnni();
    same.name = "avx512_vnni_vbmi";
    same.look_up = avx512_vnni::look_up_wide;
    return same;
  }();
  return kernels;
}

}  // namespace paretrim
