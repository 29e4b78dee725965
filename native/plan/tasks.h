// Splits the work of a convolution into parts.
#pragma once

#include <vector>

#include "plan/convolution.h"

namespace paretrim {

// One part: a band of rows of one slice, counted in registers of pixels, for a range of output planes.
struct Task {
  std::int64_t slice;
  std::int64_t band;
  std::int64_t row;  // first row of the band
  std::int64_t first_vector;
  std::int64_t last_vector;
  std::int64_t first_plane;
  std::int64_t last_plane;
};

// Rows per band. Bands start at multiples of max_lanes pixels, where a word of masks and a register begin.
std::int64_t rows_per_band(const Geometry& g, int bands);

// All bands of all slices. If there are more threads than bands, the output planes are split into ranges too.
std::vector<Task> tasks_of(const WeightedLayer& layer, const Choice& choice, const NonzeroBlocks& nonzero, int threads,
                           const Kernels& kernels);

}  // namespace paretrim
