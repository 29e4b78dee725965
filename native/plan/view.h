// What a convolution reads: for every kernel position and input plane, a run of pixels aligned with the output's pixels.
//
// `in_place`: the input itself (1x1, stride 1). `columns`: one copy of the image for each horizontal kernel position (and each
// vertical phase of a stride), shifted so that loads are aligned; vertical positions are offsets of whole rows. `positions`: one
// copy for each kernel position, aligned whatever the width, for small maps. Padding is
// written into the copies. They are made for a band of rows at a time, in memory of the thread that computes it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "graph/attributes.h"
#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

struct Geometry {
  Layout in;
  Layout out;  // height and width are what count
  Pair kernel, stride, dilation;
  Edges padding;
};

// The kernel positions that read a pixel of the input for some pixel of the output. The others meet nothing but padding: on a map
// of one pixel that is all of a 3x3 kernel but its middle.
std::vector<std::int64_t> reading_positions(const Geometry& geometry);

enum class ViewKind : std::uint8_t { in_place, columns, positions };
const char* name_of(ViewKind kind);

// One shifted, subsampled image: pixel (y, x) is the input's (row + y * stride.vertical, column + x * stride.horizontal).
struct Copy {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t rows = 0;
  std::int64_t base = 0;   // bytes from the start of the view to its first plane
  std::int64_t pitch = 0;  // bytes from plane to plane
};

struct View {
  ViewKind kind = ViewKind::in_place;
  Geometry geometry;  // of these rows
  std::vector<Copy> copies;
  std::vector<std::int64_t> copy_of;  // by kernel position that reads
  std::vector<std::int64_t> row_of;   // likewise: rows into the copy
  std::int64_t bytes = 0;             // 0 where it is the input itself

  // For so many rows of the output. Kernel positions that only meet padding have no copy.
  static View make(ViewKind kind, const Geometry& whole, std::int64_t rows);
  static std::vector<ViewKind> possible(const Geometry& geometry);

  // Bytes from the start to the activations of one kernel position and input plane that belong to output pixel 0.
  std::int64_t offset(std::int64_t position, std::int64_t plane) const;
};

// How the copies of a view are made for some rows of the output.
class Copier {
 public:
  virtual ~Copier() = default;
  // The copies of output rows from `row` on, as many as the view has.
  virtual void make(const std::uint8_t* in, std::int64_t row, std::uint8_t* out) const = 0;
};

// `view` has the copies of some rows of `whole` (or of all), which begin at multiples of most_lanes pixels; padding and outside
// count as `zero_point`.
std::unique_ptr<Copier> copier_of(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels);

}  // namespace paretrim
