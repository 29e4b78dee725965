#include "plan/tasks.h"

#include <algorithm>
#include <numeric>

namespace paretrim {
namespace {

constexpr std::int64_t parts_of_a_thread = 1;

// Ends of ranges of planes, in whole units, of about equal cost: a block costs 1, and finishing the sums of a channel about as
// much as 2.
std::vector<std::int64_t> even_ranges(const WeightedLayer& layer, const Survivors& survivors, std::int64_t unit,
                                      std::int64_t ranges) {
  const std::int64_t planes = layer.geometry.out.blocks();
  const std::int64_t channels = layer.channels_of_a_plane();
  const auto cost_before = [&](std::int64_t plane) {
    const std::size_t channel = std::min(static_cast<std::size_t>(plane * channels), survivors.channels());
    return static_cast<std::int64_t>(survivors.starts[channel]) + 2 * channels * plane;
  };
  const std::int64_t total = cost_before(planes);
  std::vector<std::int64_t> ends;
  for (std::int64_t plane = 0; plane < planes;) {
    // Of this range and those before it, `ranges` fold.
    const std::int64_t share = static_cast<std::int64_t>(ends.size() + 1) * total;
    std::int64_t next = std::min(plane + unit, planes);
    do {
      plane = next;
      next = std::min(plane + unit, planes);
      // On as long as more than half of the next unit belongs to this range.
    } while (plane < planes && 2 * share > ranges * (cost_before(plane) + cost_before(next)));
    ends.push_back(plane);
  }
  return ends;
}

}  // namespace

std::int64_t rows_of_a_band(const Geometry& g, int bands) {
  if (bands == 1) return g.out.height;
  const std::int64_t unit = most_lanes / std::gcd<std::int64_t>(most_lanes, g.out.width);
  return rounded_up((g.out.height + bands - 1) / bands, unit);
}

std::vector<Task> tasks_of(const WeightedLayer& layer, const Choice& choice, const Survivors& survivors, int threads,
                           const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const Slices slices = slices_of(layer);
  const std::int64_t rows = rows_of_a_band(g, choice.bands);
  const std::int64_t wanted = threads == 1 ? 1 : (parts_of_a_thread * threads + choice.bands - 1) / choice.bands;
  const std::int64_t unit = std::max<std::int64_t>(1, choice.grouped / layer.channels_of_a_plane());
  std::vector<std::int64_t> ends{slices.out_planes};  // of ranges, from the slice's first plane on
  if (slices.count == 1) ends = even_ranges(layer, survivors, unit, wanted);
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
