// Fake quantization of whole tensors: the training kernels over parts of fixed size, on several threads. Results are
// bit-identical for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/training.h"

namespace paretrim {

// A tensor in memory as consecutive rows, each with its own grid.
struct RealRows {
  Real type = Real::float32;
  std::int64_t rows = 1;
  std::int64_t length = 0;  // of a row

  std::int64_t bytes(std::int64_t count) const { return count * (type == Real::float32 ? 4 : 2); }
};

// out = x [rows, length], fake-quantized to grids [rows].
void fake_quantize(GridKind kind, const RealRows& shape, const void* x, const std::vector<RealGrid>& grids, void* out,
                   int threads);

// passed [rows, length] = the gradient with respect to x; sums [rows, max_sums]. See kernels/training.h.
void fake_quantize_backward(GridKind kind, const RealRows& shape, const void* x, const void* gradient,
                            const std::vector<RealGrid>& grids, void* passed, double* sums, int threads);

struct Range {
  float low = 0;
  float high = 0;
};

// Minimum and maximum of at least one value. Both are NaN if any value is.
Range range_of(const RealRows& shape, const void* x, int threads);

}  // namespace paretrim
