// AVX-VNNI: vpdpbusd on 256-bit registers, without AVX-512.
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace avx_vnni {
namespace {

#include "kernels/scalar.inl"

struct V {
#include "kernels/avx2.inl"

  static constexpr bool pairs_in_16_bits = false;
  using Weights = __m256i;

  static Weights broadcast(std::uint32_t word) { return _mm256_set1_epi32(static_cast<std::int32_t>(word)); }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, Pixels pixels, Weights weights) { return _mm256_dpbusd_avx_epi32(sum, pixels, weights); }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    Sum sums[2] = {set(0), set(0)};
    for (std::int64_t i = 0; i < count; i += 64) {
      for (int s = 0; s < 2; ++s) {
        const auto* from_b = reinterpret_cast<const std::uint8_t*>(b + i + 32 * s);
        sums[s] = dot(sums[s], load(a + i + 32 * s), load(from_b));
      }
    }
    return sum_of(add(sums[0], sums[1]));
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace avx_vnni

const Kernels& kernels_avx_vnni() {
  static const Kernels kernels = avx_vnni::all_kernels("avx_vnni");
  return kernels;
}

}  // namespace paretrim
