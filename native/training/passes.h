// Fake quantization of whole tensors: the kernels of training, over parts of fixed size and several threads. Results are the same
// bits on any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/training.h"

namespace paretrim {

// Numbers in memory as consecutive rows, each with its own grid.
struct RealRows {
  Real type = Real::float32;
  std::int64_t rows = 1;
  std::int64_t length = 0;  // of a row

  std::int64_t bytes(std::int64_t count) const { return count * (type == Real::float32 ? 4 : 2); }
};

// out = x [rows, length] rounded to the grids [rows].
void move_to_grids(GridKind kind, const RealRows& shape, const void* x, const std::vector<RealGrid>& grids, void* out,
                   int threads);

// passed = the part of `gradient` [rows, length] that passes through; sums [rows, most_sums].
void pass_through_grids(GridKind kind, const RealRows& shape, const void* x, const void* gradient,
                        const std::vector<RealGrid>& grids, void* passed, double* sums, int threads);

struct Range {
  float low = 0;
  float high = 0;
};

// Of at least one number; both are NaN if one number is.
Range range_of(const RealRows& shape, const void* x, int threads);

}  // namespace paretrim
