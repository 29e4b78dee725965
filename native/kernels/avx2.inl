// What AVX2 and AVX-VNNI share; included inside struct V. They differ in `dot` alone.
static constexpr int lanes = 8;
static constexpr int registers = 16;
using Sum = __m256i;
using Pixels = __m256i;

static Sum set(std::int32_t value) { return _mm256_set1_epi32(value); }
static Sum load_sums(const std::int32_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
static void store(std::int32_t* to, Sum sum) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), sum); }
static Pixels load(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                       const Requantization& to, std::uint8_t* out) {
  const __m256i zero_point = _mm256_set1_epi16(static_cast<std::int16_t>(to.zero_point));
  const __m256i low = _mm256_set1_epi8(static_cast<char>(to.low));
  const __m256i high = _mm256_set1_epi8(static_cast<char>(to.high));
  // Beyond int16 the result is a bound anyway; the limit only keeps the conversion inside int32.
  const __m256 limit = _mm256_set1_ps(1048576.0F);
  const __m256i interleave =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  for (int v = 0; v < vectors; ++v) {
    __m256i steps[block];
    for (int c = 0; c < block; ++c) {
      const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + c * stride + v * lanes));
      const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(multipliers[c]));
      steps[c] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, limit));  // a large negative one converts to the smallest int32
    }
    const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), zero_point);
    const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(steps[2], steps[3]), zero_point);
    const __m256i bytes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(first, second), low), high);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + v * lanes * block), _mm256_shuffle_epi8(bytes, interleave));
  }
}

static __m256 eight_floats(const std::uint8_t* from) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}

static void add_values(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by, std::uint8_t* out) {
  const __m256 first = _mm256_set1_ps(by.first);
  const __m256 second = _mm256_set1_ps(by.second);
  const __m256 constant = _mm256_set1_ps(by.constant);
  const __m256 low = _mm256_set1_ps(by.low);
  const __m256 high = _mm256_set1_ps(by.high);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const __m256 added = _mm256_add_ps(_mm256_mul_ps(eight_floats(b + i), second), constant);
    const __m256 sum = _mm256_add_ps(_mm256_mul_ps(eight_floats(a + i), first), added);
    const __m256i steps = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(sum, low), high));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(words, words));
  }
  for (; i < count; ++i) {
    const float sum = static_cast<float>(a[i]) * by.first + (static_cast<float>(b[i]) * by.second + by.constant);
    out[i] = static_cast<std::uint8_t>(rounded(least(most(sum, by.low), by.high)));
  }
}

static void shift_pixels(const Shift& shift, const std::uint8_t* in, std::uint8_t* out) {
  const __m256i filled = _mm256_set1_epi8(static_cast<char>(shift.fill));
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  in += shift.pixels * block;
  for (std::int64_t plane = 0; plane < shift.planes; ++plane, in += shift.in_pitch, out += shift.out_pitch) {
    for (std::int64_t half = 0; half < 2 * shift.vectors; ++half) {
      const int mask = shift.masks[half / 2] >> (half % 2 * lanes) & 0xFF;
      const __m256i wanted = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask), bits), bits);
      const __m256i known = _mm256_maskload_epi32(reinterpret_cast<const int*>(in + half * lanes * block), wanted);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + half * lanes * block), _mm256_blendv_epi8(filled, known, wanted));
    }
  }
}

static void stride_pixels(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out) {
  std::int64_t i = 0;
  if (step == 2) {
    for (; i + lanes < count; i += lanes) {  // one fewer than fits, because whole registers are read
      const auto* source = reinterpret_cast<const float*>(in + 2 * i * block);
      const __m256 pairs = _mm256_shuffle_ps(_mm256_loadu_ps(source), _mm256_loadu_ps(source + lanes), 0x88);
      const __m256i even = _mm256_permute4x64_epi64(_mm256_castps_si256(pairs), 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * block), even);
    }
  }
  for (; i < count; ++i) std::memcpy(out + i * block, in + step * i * block, block);
}

static __m256i picked(const Pick& pick, const std::uint8_t* in) {
  const __m256i index = _mm256_load_si256(reinterpret_cast<const __m256i*>(pick.index));
  const __m256i first = _mm256_permutevar8x32_epi32(load(in + pick.first), index);  // takes the index modulo 8
  const __m256i second = _mm256_permutevar8x32_epi32(load(in + pick.second), index);
  return _mm256_blendv_epi8(first, second, _mm256_cmpgt_epi32(index, _mm256_set1_epi32(lanes - 1)));
}

static __m256i known(const Pick& pick) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(pick.known), bits), bits);
}

static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
  const __m256i filled = _mm256_set1_epi8(static_cast<char>(fill));
  __m256i pixels = filled;
  for (const Pick* pick = picks; pick < picks + count; ++pick) {
    pixels = _mm256_blendv_epi8(pixels, picked(*pick, in), known(*pick));
    if (!pick->last) continue;
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), pixels);
    pixels = filled;
    out += lanes * block;
  }
}

static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
  __m256i pixels = _mm256_setzero_si256();
  for (const Pick* pick = picks; pick < picks + count; ++pick) {
    pixels = _mm256_max_epu8(pixels, _mm256_and_si256(picked(*pick, in), known(*pick)));
    if (!pick->last) continue;
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), pixels);
    pixels = _mm256_setzero_si256();
    out += lanes * block;
  }
}

static std::int32_t sum_of(Sum sum) {
  alignas(alignment) std::int32_t lane[lanes];
  store(lane, sum);
  std::uint32_t total = 0;
  for (const std::int32_t one : lane) total += static_cast<std::uint32_t>(one);
  return static_cast<std::int32_t>(total);
}
