// What training asks of an instruction set: numbers moved to a grid, and what the loss says of that, in one pass each. Every
// instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace paretrim {

enum class Real : std::uint8_t { float32, bfloat16 };
inline constexpr int reals = 2;

// Ways to move a number v to a grid. `level` is rint(...), a clamp lets no number pass as NaN does.
enum class GridKind : std::uint8_t {
  // clamp(rint(v * (1 / step)), low, high) * step. Inside is low - 1/2 < v / step < high + 1/2; sums are of (moved - v) inside,
  // of `moved` outside.
  steps,
  // The same, but inside is where rint(v * (1 / step)) is from low to high.
  levels,
  // clamp(rint(clamp(v, low * step, high * step) / step), low, high) * step. Sums are of what passes to the lower and the upper
  // end; where v is one of them, half stays with v.
  ends,
  // (clamp(rint(v / step) - low, 0, high - low) + low) * step. Inside is 0 <= p = (v - offset) / step <= high - low; sums are of
  // clamped rint(p) - p inside, and of 1 outside.
  offset,
};
inline constexpr int grid_kinds = 4;
inline constexpr int most_sums = 2;

// Numbers of one grid. The step is above 0, low <= 0 <= high are whole.
struct RealGrid {
  float step = 1;
  float low = 0;
  float high = 0;
  float offset = 0;
};

// out[i] = x[i] moved to the grid; rounded once to the type of `out`, which is that of `x`.
using MoveToGrid = void (*)(const void* x, std::int64_t count, const RealGrid& grid, void* out);

// passed[i] = gradient[i] where x[i] is inside, else 0; sums[k] = the sum over i of gradient[i] times what the grid says of x[i].
// Every sixteenth product is added in float32, the sixteen sums in float64, in their order.
using PassThroughGrid = void (*)(const void* x, const void* gradient, std::int64_t count, const RealGrid& grid, void* passed,
                                 double* sums);

// Least and greatest number, NaN both where one is NaN; of at least one number.
using RangeOf = void (*)(const void* x, std::int64_t count, float* range);

struct TrainingKernels {
  MoveToGrid move[grid_kinds][reals];
  PassThroughGrid pass[grid_kinds][reals];
  RangeOf range[reals];
};

}  // namespace paretrim
