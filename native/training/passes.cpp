#include "training/passes.h"

#include <algorithm>

#include "kernels/cpu.h"
#include "training/shared_work.h"

namespace paretrim {
namespace {

// Elements per part. Sums are formed per part and added in the order of the parts, so they do not depend on the thread count.
constexpr std::int64_t part_length = 8192;

// Splits all rows into parts, the work items. A thread takes several items at once if rows are short.
struct RowParts {
  explicit RowParts(const RealRows& shape)
      : length(shape.length),
        in_row((shape.length + part_length - 1) / part_length),
        items(shape.rows * in_row),
        together(std::max<std::int64_t>(1, part_length / std::max<std::int64_t>(1, shape.length))) {}

  std::int64_t row(std::int64_t item) const { return item / in_row; }
  std::int64_t begin(std::int64_t item) const { return row(item) * length + item % in_row * part_length; }
  std::int64_t count(std::int64_t item) const { return std::min(part_length, length - item % in_row * part_length); }

  std::int64_t length;
  std::int64_t in_row;
  std::int64_t items;
  std::int64_t together;
};

const TrainingKernels& kernels() {
  static const TrainingKernels& best = kernels_named("").training;
  return best;
}

const std::uint8_t* at(const void* data, std::int64_t bytes) { return static_cast<const std::uint8_t*>(data) + bytes; }
std::uint8_t* at(void* data, std::int64_t bytes) { return static_cast<std::uint8_t*>(data) + bytes; }

}  // namespace

void fake_quantize(GridKind kind, const RealRows& shape, const void* x, const std::vector<RealGrid>& grids, void* out,
                   int threads) {
  const RowParts parts(shape);
  const FakeQuantize forward = kernels().forward[static_cast<int>(kind)][static_cast<int>(shape.type)];
  share(parts.items, parts.together, threads, [&](std::int64_t item) {
    const std::int64_t begin = shape.bytes(parts.begin(item));
    forward(at(x, begin), parts.count(item), grids[static_cast<std::size_t>(parts.row(item))], at(out, begin));
  });
}

void fake_quantize_backward(GridKind kind, const RealRows& shape, const void* x, const void* gradient,
                            const std::vector<RealGrid>& grids, void* passed, double* sums, int threads) {
  const RowParts parts(shape);
  const FakeQuantizeBackward backward = kernels().backward[static_cast<int>(kind)][static_cast<int>(shape.type)];
  std::vector<double> of_parts(static_cast<std::size_t>(parts.items * max_sums));
  share(parts.items, parts.together, threads, [&](std::int64_t item) {
    const std::int64_t begin = shape.bytes(parts.begin(item));
    backward(at(x, begin), at(gradient, begin), parts.count(item), grids[static_cast<std::size_t>(parts.row(item))],
             at(passed, begin), &of_parts[static_cast<std::size_t>(item * max_sums)]);
  });
  std::fill_n(sums, shape.rows * max_sums, 0.0);
  for (std::int64_t item = 0; item < parts.items; ++item) {
    for (int k = 0; k < max_sums; ++k)
      sums[parts.row(item) * max_sums + k] += of_parts[static_cast<std::size_t>(item * max_sums + k)];
  }
}

Range range_of(const RealRows& shape, const void* x, int threads) {
  const RowParts parts(shape);
  const RangeOf range = kernels().range[static_cast<int>(shape.type)];
  std::vector<float> of_parts(static_cast<std::size_t>(parts.items * 2));
  share(parts.items, parts.together, threads, [&](std::int64_t item) {
    range(at(x, shape.bytes(parts.begin(item))), parts.count(item), &of_parts[static_cast<std::size_t>(item * 2)]);
  });
  Range found{of_parts[0], of_parts[1]};
  for (std::int64_t item = 1; item < parts.items; ++item) {
    const float low = of_parts[static_cast<std::size_t>(item * 2)];
    const float high = of_parts[static_cast<std::size_t>(item * 2 + 1)];
    found.low = low >= found.low || found.low != found.low ? found.low : low;  // NaN propagates
    found.high = high <= found.high || found.high != found.high ? found.high : high;
  }
  return found;
}

}  // namespace paretrim
