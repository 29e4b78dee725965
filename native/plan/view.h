// Views: how a convolution reads its input. For each kernel position and input plane, a view has a run of pixels that lines up
// with the output's pixels. Compare im2col; a view copies less.
//
// `in_place`: the input itself (1x1, stride 1). `columns`: one copy of the input for each horizontal kernel position (and each
// vertical phase of a stride), shifted so that loads are aligned; vertical positions are offsets of whole rows. `positions`: one
// copy for each kernel position, which is aligned for any width; good for small maps. Copies include the padding. They are made
// for one band of rows at a time, in scratch memory of the thread that computes the band.
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
  Layout out;  // only height and width matter to views
  Pair kernel, stride, dilation;
  Edges padding;
};

// The kernel positions that read an input pixel for at least one output pixel, ascending.
std::vector<std::int64_t> reading_positions(const Geometry& geometry);

// The others, which only meet padding: on a map of one pixel, all but the centre of a 3x3 kernel.
std::vector<std::int64_t> padding_positions(const Geometry& geometry);

enum class ViewKind : std::uint8_t { in_place, columns, positions };
const char* name_of(ViewKind kind);

// A shifted, subsampled copy of the input: its pixel (y, x) is pixel (row + y * stride.vertical, column + x * stride.horizontal)
// of the input.
struct Copy {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t rows = 0;
  std::int64_t base = 0;   // bytes from the start of the view to its first plane
  std::int64_t pitch = 0;  // bytes from one plane to the next
};

struct View {
  ViewKind kind = ViewKind::in_place;
  Geometry geometry;  // with the height of the view's rows
  std::vector<Copy> copies;
  std::vector<std::int64_t> copy_of;  // by kernel position that reads the input
  std::vector<std::int64_t> row_of;   // by the same: first row in the copy
  std::int64_t bytes = 0;             // of all copies; 0 if the view is in place

  // The view for `rows` rows of the output. Kernel positions that only meet padding have no copy.
  static View make(ViewKind kind, const Geometry& whole, std::int64_t rows);
  static std::vector<ViewKind> possible(const Geometry& geometry);

  // Byte offset of the activation that output pixel 0 reads at one kernel position and input plane.
  std::int64_t offset(std::int64_t position, std::int64_t plane) const;
};

// Makes the copies of a view for a band of output rows.
class Copier {
 public:
  virtual ~Copier() = default;
  // Makes the copies for the band that starts at output row `row` and has as many rows as the view.
  virtual void make(const std::uint8_t* in, std::int64_t row, std::uint8_t* out) const = 0;
};

// `view` is for a band of rows of `whole`, or for all rows. Bands start at multiples of max_lanes pixels. Pixels outside the
// input become `zero_point`.
std::unique_ptr<Copier> copier_of(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels);

}  // namespace paretrim
