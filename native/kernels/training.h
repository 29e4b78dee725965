// The training kernels of one instruction set: fake quantization and its backward pass, one pass over memory each. All
// instruction sets give bit-identical results.
#pragma once

#include <cstdint>

namespace paretrim {

enum class Real : std::uint8_t { float32, bfloat16 };
inline constexpr int reals = 2;

// Ways to fake-quantize a value v. NaN stays NaN: clamping does not remove it. Each kind gives the formula of the forward pass,
// the values that count as inside the range, and the factors of the gradient in the backward pass's sums.
enum class GridKind : std::uint8_t {
  // clamp(rint(v * (1 / step)), low, high) * step. Inside: low - 1/2 < v / step < high + 1/2. Factor: (quantized - v) inside,
  // `quantized` outside.
  steps,
  // The same, but inside means low <= rint(v * (1 / step)) <= high.
  levels,
  // clamp(rint(clamp(v, low * step, high * step) / step), low, high) * step. Two factors: the shares of the gradient that go to
  // the lower and to the upper end. If v equals an end, v keeps half of the gradient.
  ends,
  // (clamp(rint(v / step) - low, 0, high - low) + low) * step. Inside: 0 <= p = (v - offset) / step <= high - low. Two factors:
  // clamped rint(p), minus p if inside; and 1 outside.
  offset,
};
inline constexpr int grid_kinds = 4;
inline constexpr int max_sums = 2;

// Parameters of one grid: step > 0, and integers low <= 0 <= high.
struct RealGrid {
  float step = 1;
  float low = 0;
  float high = 0;
  float offset = 0;
};

// out[i] = fake-quantized x[i], computed in float32 and rounded once to the type that `x` and `out` share.
using FakeQuantize = void (*)(const void* x, std::int64_t count, const RealGrid& grid, void* out);

// The straight-through estimator: passed[i] = gradient[i] times the share that passes (1 inside, 0 outside; see `ends`), and
// sums[k] = the sum over i of gradient[i] times factor k of x[i]. Products accumulate in 16 interleaved float32 sums, which are
// then added in order in float64.
using FakeQuantizeBackward = void (*)(const void* x, const void* gradient, std::int64_t count, const RealGrid& grid, void* passed,
                                      double* sums);

// Minimum and maximum of count >= 1 values. Both are NaN if any value is.
using RangeOf = void (*)(const void* x, std::int64_t count, float* range);

struct TrainingKernels {
  FakeQuantize forward[grid_kinds][reals];
  FakeQuantizeBackward backward[grid_kinds][reals];
  RangeOf range[reals];
};

}  // namespace paretrim
