// How the work of a convolution is cut into parts.
#pragma once

#include <vector>

#include "plan/convolution.h"

namespace paretrim {

// A band of rows of a slice, in registers of pixels, and a range of output planes.
struct Task {
  std::int64_t slice;
  std::int64_t band;
  std::int64_t row;  // the band's first
  std::int64_t first_vector;
  std::int64_t last_vector;
  std::int64_t first_plane;
  std::int64_t last_plane;
};

// Bands begin where a word of masks and a register do.
std::int64_t rows_of_a_band(const Geometry& g, int bands);

// Bands of every slice, times ranges of output planes where threads outnumber them.
std::vector<Task> tasks_of(const WeightedLayer& layer, const Choice& choice, const Survivors& survivors, int threads,
                           const Kernels& kernels);

}  // namespace paretrim
