#include "plan/tasks.h"

#include <algorithm>
#include <numeric>

namespace paretrim {
namespace {

// Ends of ranges of planes of about equal cost, in whole units. A block costs 1; finishing the sums of a channel costs about 2.
std::vector<std::int64_t> even_ranges(const WeightedLayer& layer, const NonzeroBlocks& nonzero, std::int64_t unit,
                                      std::int64_t ranges) {
  const std::int64_t planes = layer.geometry.out.blocks();
  const std::int64_t channels = layer.channels_per_plane();
  const auto cost_before = [&](std::int64_t plane) {
    const std::size_t channel = std::min(static_cast<std::size_t>(plane * channels), nonzero.channels());
    return static_cast<std::int64_t>(nonzero.before(channel)) + 2 * channels * plane;
  };
  const std::int64_t total = cost_before(planes);
  std::vector<std::int64_t> ends;
  for (std::int64_t plane = 0; plane < planes;) {
    // The cost that should end with this range, times `ranges`.
    const std::int64_t share = static_cast<std::int64_t>(ends.size() + 1) * total;
    std::int64_t next = std::min(plane + unit, planes);
    do {
      plane = next;
      next = std::min(plane + unit, planes);
      // Takes the next unit if more than half of it belongs to this range.
    } while (plane < planes && 2 * share > ranges * (cost_before(plane) + cost_before(next)));
    ends.push_back(plane);
  }
  return ends;
}

}  // namespace

std::int64_t rows_per_band(const Geometry& g, int bands) {
  if (bands == 1) return g.out.height;
  const std::int64_t unit = max_lanes / std::gcd<std::int64_t>(max_lanes, g.out.width);
  return rounded_up((g.out.height + bands - 1) / bands, unit);
}

std::vector<Task> tasks_of(const WeightedLayer& layer, const Choice& choice, const NonzeroBlocks& nonzero, int threads,
                           const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const Slices slices = slices_of(layer);
  const std::int64_t rows = rows_per_band(g, choice.bands);
  const std::int64_t wanted = threads == 1 ? 1 : (threads + choice.bands - 1) / choice.bands;
  const std::int64_t unit = std::max<std::int64_t>(1, choice.grouped / layer.channels_per_plane());
  std::vector<std::int64_t> ends{slices.out_planes};  // of the ranges, relative to the slice's first plane
  if (slices.count == 1) ends = even_ranges(layer, nonzero, unit, wanted);
  std::vector<Task> tasks;
  for (std::int64_t slice = 0; slice < slices.count; ++slice) {
    for (std::int64_t row = 0, band = 0; row < g.out.height; row += rows, ++band) {
      const std::int64_t first_vector = row * g.out.width / kernels.lanes;
      const std::int64_t last = std::min(row + rows, g.out.height) * g.out.width;
      const std::int64_t base = slice * slices.out_planes;
      std::int64_t plane = base;
      for (const std::int64_t end : ends) {
        tasks.push_back({slice, band, row, first_vector, (last + kernels.lanes - 1) / kernels.lanes, plane, base + end});
        plane = base + end;
      }
    }
  }
  return tasks;
}

}  // namespace paretrim
