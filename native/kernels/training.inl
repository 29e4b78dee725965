// The training kernels, as plain loops that the compiler vectorises for each instruction set. Included inside its namespace.

struct Bfloat16 {
  std::uint16_t bits;
};

inline float load_real(const float* from) { return *from; }
inline float load_real(const Bfloat16* from) {
  const std::uint32_t bits = static_cast<std::uint32_t>(from->bits) << 16U;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store_real(Bfloat16* to, float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t even = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  to->bits = static_cast<std::uint16_t>(value != value ? 0x7FC0U : even);
}

// NaN stays NaN.
inline float clamped_real(float value, float low, float high) {
  const float above = value < low ? low : value;
  return above > high ? high : above;
}

// Rounds |value| < 2^22 to the nearest integer, ties to even: adding 1.5 * 2^23 leaves no bits for a fraction.
inline float whole(float value) {
  constexpr float magic = 12582912.0F;  // 1.5 * 2^23
  const float rounded = (value + magic) - magic;
  std::uint32_t bits, sign;
  std::memcpy(&bits, &rounded, sizeof bits);
  std::memcpy(&sign, &value, sizeof sign);
  bits |= sign & 0x80000000U;  // keeps the sign of values that round to -0
  float signed_one;
  std::memcpy(&signed_one, &bits, sizeof signed_one);
  return signed_one;
}

// Factors of one value's gradient: the share that passes to the value, and the factor in each sum.
struct GradientFactors {
  float passed;
  float sums[max_sums];
};

struct Steps {
  static constexpr int sums = 1;
  explicit Steps(const RealGrid& grid)
      : inverse(static_cast<float>(1.0 / static_cast<double>(grid.step))),
        step(grid.step),
        low(grid.low),
        high(grid.high),
        first((grid.low - 0.5F) * grid.step),
        last((grid.high + 0.5F) * grid.step) {}
  // Clamps after rounding, so that values that round to -0 stay -0. The inner clamp only keeps whole() in its range.
  float quantized(float v) const {
    return clamped_real(whole(clamped_real(v * inverse, low - 1.0F, high + 1.0F)), low, high) * step;
  }
  GradientFactors factors(float v) const {
    const float inside = (v <= first ? 0.0F : 1.0F) * (v >= last ? 0.0F : 1.0F);
    return {inside, {quantized(v) - (inside != 0.0F ? v : 0.0F), 0.0F}};
  }
  float inverse, step, low, high, first, last;
};

struct Levels {
  static constexpr int sums = 1;
  explicit Levels(const RealGrid& grid) : inverse(1.0F / grid.step), step(grid.step), low(grid.low), high(grid.high) {}
  float quantized(float v) const { return (whole(clamped_real(v * inverse, low, high)) + 0.0F) * step; }  // no negative 0
  GradientFactors factors(float v) const {
    const float level = whole(clamped_real(v * inverse, low - 1.0F, high + 1.0F));
    const float inside = (level < low ? 0.0F : 1.0F) * (level > high ? 0.0F : 1.0F);
    return {inside, {clamped_real(level, low, high) * step - (inside != 0.0F ? v : 0.0F), 0.0F}};
  }
  float inverse, step, low, high;
};

struct Ends {
  static constexpr int sums = 2;
  explicit Ends(const RealGrid& grid)
      : step(grid.step), low(grid.low), high(grid.high), first(grid.low * grid.step), last(grid.high * grid.step) {}
  float quantized(float v) const { return whole(clamped_real(clamped_real(v, first, last) / step, low, high)) * step; }
  GradientFactors factors(float v) const {
    const float above = v < first ? first : v;
    const float below_last = (above > last ? 0.0F : 1.0F) * (above == last ? 0.5F : 1.0F);
    const float from_last = (above < last ? 0.0F : 1.0F) * (above == last ? 0.5F : 1.0F);
    const float above_first = (v < first ? 0.0F : 1.0F) * (v == first ? 0.5F : 1.0F);
    const float from_first = (v > first ? 0.0F : 1.0F) * (v == first ? 0.5F : 1.0F);
    return {below_last * above_first, {below_last * from_first, from_last}};
  }
  float step, low, high, first, last;
};

struct Offset {
  static constexpr int sums = 2;
  explicit Offset(const RealGrid& grid)
      : step(grid.step), low(grid.low), high(grid.high), top(grid.high - grid.low), offset(grid.offset) {}
  float quantized(float v) const { return (whole(clamped_real(v / step, low, high)) + 0.0F) * step; }
  GradientFactors factors(float v) const {
    const float place = (v - offset) / step;
    const float inside = (place >= 0.0F ? 1.0F : 0.0F) * (place <= top ? 1.0F : 0.0F);
    const float rounded = whole(clamped_real(place, 0.0F, top));
    return {inside, {rounded - (inside != 0.0F ? place : 0.0F), 1.0F - inside}};
  }
  float step, low, high, top, offset;
};

// Values per pass: few enough for their float32 copies to stay in the L1 cache.
inline constexpr std::int64_t at_once = 512;
inline constexpr int sum_lanes = 16;

inline const float* as_floats(const float* from, std::int64_t, float*) { return from; }
inline const float* as_floats(const Bfloat16* from, std::int64_t count, float* __restrict room) {
  for (std::int64_t i = 0; i < count; ++i) room[i] = load_real(from + i);
  return room;
}

inline float* place_for(float* to, float*) { return to; }
inline float* place_for(Bfloat16*, float* room) { return room; }
inline void put(const float*, std::int64_t, float*) {}  // written in place already
inline void put(const float* __restrict from, std::int64_t count, Bfloat16* __restrict to) {
  for (std::int64_t i = 0; i < count; ++i) store_real(to + i, from[i]);
}

template <typename Rule, typename T>
void fake_quantize(const void* x, std::int64_t count, const RealGrid& grid, void* out) {
  const Rule rule(grid);
  alignas(64) float read[at_once];
  alignas(64) float written[at_once];
  for (std::int64_t at = 0; at < count; at += at_once) {
    const std::int64_t some = min_of(at_once, count - at);
    T* to = static_cast<T*>(out) + at;
    const float* __restrict from = as_floats(static_cast<const T*>(x) + at, some, read);
    float* __restrict into = place_for(to, written);
    for (std::int64_t i = 0; i < some; ++i) into[i] = rule.quantized(from[i]);
    put(into, some, to);
  }
}

inline void add_to_lanes(const float* products, std::int64_t count, float* __restrict lanes) {
  std::int64_t at = 0;
  for (; at + sum_lanes <= count; at += sum_lanes) {
    for (int l = 0; l < sum_lanes; ++l) lanes[l] += products[at + l];
  }
  for (; at < count; ++at) lanes[at % sum_lanes] += products[at];
}

template <typename Rule, typename T>
void fake_quantize_backward(const void* x, const void* gradient, std::int64_t count, const RealGrid& grid, void* passed,
                            double* sums) {
  const Rule rule(grid);
  alignas(64) float read[2][at_once];
  alignas(64) float written[at_once];
  alignas(64) float products[max_sums][at_once];
  float lanes[max_sums][sum_lanes] = {};
  for (std::int64_t at = 0; at < count; at += at_once) {
    const std::int64_t some = min_of(at_once, count - at);
    T* to = static_cast<T*>(passed) + at;
    const float* __restrict from = as_floats(static_cast<const T*>(x) + at, some, read[0]);
    const float* __restrict upstream = as_floats(static_cast<const T*>(gradient) + at, some, read[1]);
    float* __restrict into = place_for(to, written);
    for (std::int64_t i = 0; i < some; ++i) {
      const GradientFactors factors = rule.factors(from[i]);
      into[i] = factors.passed != 0.0F ? upstream[i] * factors.passed : 0.0F;
      for (int k = 0; k < Rule::sums; ++k) products[k][i] = upstream[i] * factors.sums[k];
    }
    put(into, some, to);
    for (int k = 0; k < Rule::sums; ++k) add_to_lanes(products[k], some, lanes[k]);
  }
  for (int k = 0; k < Rule::sums; ++k) {
    sums[k] = 0;
    for (const float lane : lanes[k]) sums[k] += static_cast<double>(lane);
  }
}

struct Extremes {
  float low[sum_lanes];
  float high[sum_lanes];
  float nan[sum_lanes];  // NaN once a NaN was met, else 0
};

inline void look_at(float v, Extremes& found, int lane) {
  found.low[lane] = v < found.low[lane] ? v : found.low[lane];
  found.high[lane] = v > found.high[lane] ? v : found.high[lane];
  found.nan[lane] = v != v ? v : found.nan[lane];
}

template <typename T>
void range_of(const void* x, std::int64_t count, float* range) {
  const T* all = static_cast<const T*>(x);
  alignas(64) float read[at_once];
  Extremes found{};
  for (int l = 0; l < sum_lanes; ++l) found.low[l] = found.high[l] = load_real(all);
  for (std::int64_t at = 0; at < count; at += at_once) {
    const std::int64_t some = min_of(at_once, count - at);
    const float* __restrict from = as_floats(all + at, some, read);
    std::int64_t i = 0;
    for (; i + sum_lanes <= some; i += sum_lanes) {
      for (int l = 0; l < sum_lanes; ++l) look_at(from[i + l], found, l);
    }
    for (; i < some; ++i) look_at(from[i], found, static_cast<int>(i % sum_lanes));
  }
  range[0] = range[1] = load_real(all);
  for (int l = 0; l < sum_lanes; ++l) {
    range[0] = found.low[l] < range[0] ? found.low[l] : range[0];
    range[1] = found.high[l] > range[1] ? found.high[l] : range[1];
  }
  for (const float value : found.nan) {
    if (value != value) range[0] = range[1] = value;
  }
}

template <typename Rule>
void fill_kind(TrainingKernels& kernels, GridKind kind) {
  const auto at = static_cast<int>(kind);
  kernels.forward[at][0] = fake_quantize<Rule, float>;
  kernels.forward[at][1] = fake_quantize<Rule, Bfloat16>;
  kernels.backward[at][0] = fake_quantize_backward<Rule, float>;
  kernels.backward[at][1] = fake_quantize_backward<Rule, Bfloat16>;
}

inline TrainingKernels training_kernels() {
  TrainingKernels kernels{};
  fill_kind<Steps>(kernels, GridKind::steps);
  fill_kind<Levels>(kernels, GridKind::levels);
  fill_kind<Ends>(kernels, GridKind::ends);
  fill_kind<Offset>(kernels, GridKind::offset);
  kernels.range[0] = range_of<float>;
  kernels.range[1] = range_of<Bfloat16>;
  return kernels;
}
