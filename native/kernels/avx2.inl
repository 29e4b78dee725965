// The members of V that AVX2 and AVX-VNNI share (both have FMA); included inside struct V. The two differ only in `dot` and its
// weights.
static constexpr int lanes = 8;
static constexpr int registers = 16;
using Sum = __m256i;
using Pixels = __m256i;

static Sum set(std::int32_t value) { return _mm256_set1_epi32(value); }
static Sum load_sums(const std::int32_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
static void store(std::int32_t* to, Sum sum) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), sum); }
static Pixels load(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Beyond int16 the result is clamped anyway, so the minimum only has to keep the conversion within int32. Large negative values
// convert to INT32_MIN, which is right.
static __m256i steps_of(__m256 value) { return _mm256_cvtps_epi32(_mm256_min_ps(value, _mm256_set1_ps(1048576.0F))); }

// Packs a, b, c and d into bytes: in each 128-bit half, four of a, then four each of b, c and d.
static __m256i clamped(__m256i a, __m256i b, __m256i c, __m256i d, const Requantization& to) {
  const __m256i zero_point = _mm256_set1_epi16(static_cast<std::int16_t>(to.zero_point));
  const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_point);
  const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_point);
  const __m256i low = _mm256_set1_epi8(static_cast<char>(to.low));
  const __m256i high = _mm256_set1_epi8(static_cast<char>(to.high));
  return _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(first, second), low), high);
}

static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                       const Requantization& given, std::uint8_t* out) {
  const Requantization to = given;  // a copy, so that the stores below cannot alias it
  const __m256i interleave = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  for (int v = 0; v < vectors; ++v) {
    __m256i steps[block];
    for (int c = 0; c < block; ++c) {
      const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + c * stride + v * lanes));
      steps[c] = steps_of(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(multipliers[c])));
    }
    const __m256i bytes = clamped(steps[0], steps[1], steps[2], steps[3], to);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + v * lanes * block), _mm256_shuffle_epi8(bytes, interleave));
  }
}

using Floats = __m256;
static Floats all(float value) { return _mm256_set1_ps(value); }
static Floats load_floats(const float* from) { return _mm256_loadu_ps(from); }
static Floats floats(const std::uint8_t* from) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
static Floats plus(Floats a, Floats b) { return _mm256_add_ps(a, b); }
static Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
static Floats fused(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, sum); }
static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
static void store_floats(float* to, Floats values) { _mm256_storeu_ps(to, values); }
static void store_rounded(Floats a, Floats b, Floats c, Floats d, const Requantization& to, std::uint8_t* out) {
  const __m256i bytes = clamped(steps_of(a), steps_of(b), steps_of(c), steps_of(d), to);
  store_bytes(out, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

using Bytes = __m256i;
static Bytes load_bytes(const std::uint8_t* from) { return load(from); }
static void store_bytes(std::uint8_t* to, Bytes bytes) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes); }
static Bytes same_pixels(std::uint32_t pixel) { return _mm256_set1_epi32(static_cast<std::int32_t>(pixel)); }
static Bytes control(std::uint32_t channels) {
  const __m128i pixels = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C);
  return _mm256_add_epi8(same_pixels(channels), _mm256_broadcastsi128_si256(pixels));
}
static Bytes shuffled(Bytes bytes, Bytes control) { return _mm256_shuffle_epi8(bytes, control); }
static Bytes either(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }

// Looks up the low four bits of the index in all sixteen rows of 16 entries, then selects the row by the upper four bits, halving
// the candidates with each bit.
struct Table {
  __m256i rows[16];
  explicit Table(const std::uint8_t* entries) {
    for (int r = 0; r < 16; ++r) {
      rows[r] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries + 16 * r)));
    }
  }
  Bytes operator[](Bytes index) const {
    const __m256i column = _mm256_and_si256(index, _mm256_set1_epi8(0x0F));
    __m256i found[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) found[r] = _mm256_shuffle_epi8(rows[r], column);
#pragma GCC unroll 4
    for (int bit = 4, left = 8; bit < 8; ++bit, left /= 2) {
      const __m256i upper = _mm256_slli_epi16(index, 7 - bit);  // moves the bit to the top of its byte, where the blend reads it
#pragma GCC unroll 8
      for (int r = 0; r < left; ++r) found[r] = _mm256_blendv_epi8(found[2 * r], found[2 * r + 1], upper);
    }
    return found[0];
  }
};

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
    for (; i + lanes < count; i += lanes) {  // not `<=`: the loads reach one pixel beyond the last one needed
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

static __m256i filled_lanes(const Pick& pick) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(pick.mask), bits), bits);
}

static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
  const __m256i filled = _mm256_set1_epi8(static_cast<char>(fill));
  __m256i pixels = filled;
  for (const Pick* pick = picks; pick < picks + count; ++pick) {
    pixels = _mm256_blendv_epi8(pixels, picked(*pick, in), filled_lanes(*pick));
    if (!pick->last) continue;
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), pixels);
    pixels = filled;
    out += lanes * block;
  }
}

static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
  __m256i pixels = _mm256_setzero_si256();
  for (const Pick* pick = picks; pick < picks + count; ++pick) {
    pixels = _mm256_max_epu8(pixels, _mm256_and_si256(picked(*pick, in), filled_lanes(*pick)));
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
