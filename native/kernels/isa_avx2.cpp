// AVX2 without VNNI. vpmaddubsw saturates its int16 pair sums, so tiles get weights whose pairs cannot reach that (pairs.h).
// `dot_product`, whose weights are not packed, widens both operands to 16 bits instead.
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace avx2 {
namespace {

#include "kernels/scalar.inl"

struct V {
#include "kernels/avx2.inl"

  static constexpr bool pairs_in_16_bits = true;
  using Weights = __m256i;
  static Weights broadcast(std::uint32_t word) { return _mm256_set1_epi32(static_cast<std::int32_t>(word)); }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, Pixels pixels, Weights weights) {
    const __m256i pairs = _mm256_maddubs_epi16(pixels, weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    Sum sum = set(0);
    for (std::int64_t i = 0; i < count; i += 16) {
      const __m256i from_a = _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(a + i)));
      const __m256i from_b = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(b + i)));
      sum = add(sum, _mm256_madd_epi16(from_a, from_b));
    }
    return sum_of(sum);
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace avx2

const Kernels& kernels_avx2() {
  static const Kernels kernels = avx2::all_kernels("avx2");
  return kernels;
}

}  // namespace paretrim
