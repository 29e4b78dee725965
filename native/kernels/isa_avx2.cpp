// AVX2 without VNNI. vpmaddubsw saturates its int16 pair sums, so activations and weights are widened to 16 bits instead: exact,
// at about a fifth of VNNI's speed.
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

  struct Weights {
    __m256i even;  // weights 0 and 2 as int16, in every lane
    __m256i odd;   // weights 1 and 3
  };

  static Weights broadcast(std::uint32_t word) {
    const __m256i all = _mm256_set1_epi32(static_cast<std::int32_t>(word));
    return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
  }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, Pixels pixels, const Weights& weights) {
    const __m256i even = _mm256_and_si256(pixels, _mm256_set1_epi16(0x00FF));
    const __m256i odd = _mm256_srli_epi16(pixels, 8);
    const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(even, weights.even), _mm256_madd_epi16(odd, weights.odd));
    return _mm256_add_epi32(sum, products);
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
