#include "plan/convolution.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "plan/single_pixel.h"

namespace paretrim {
namespace {

constexpr std::int64_t parts_of_a_thread = 1;

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

// Some registers of a band.
struct Tile {
  std::int64_t vector;  // first
  int vectors;
};

// Bands begin where a word of masks and a register do.
std::int64_t rows_of_a_band(const Geometry& g, int bands) {
  if (bands == 1) return g.out.height;
  const std::int64_t unit = most_lanes / std::gcd<std::int64_t>(most_lanes, g.out.width);
  return rounded_up((g.out.height + bands - 1) / bands, unit);
}

// Ends of ranges of planes, whole units of them, that cost about the same: a block costs 1, what is done to finished sums of a
// plane about as much as 8.
std::vector<std::int64_t> even_ranges(const Survivors& survivors, std::int64_t planes, std::int64_t unit, std::int64_t ranges) {
  const auto cost_before = [&](std::int64_t plane) {
    const std::size_t channel = std::min(static_cast<std::size_t>(plane * block), survivors.channels());
    return static_cast<std::int64_t>(survivors.starts[channel]) + 8 * plane;
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

// Bands of every slice, times ranges of output planes where threads outnumber them.
std::vector<Task> tasks_of(const Weighted& layer, const Choice& choice, const Survivors& survivors, int threads,
                           const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const Slices slices = slices_of(layer);
  const std::int64_t rows = rows_of_a_band(g, choice.bands);
  const std::int64_t wanted = threads == 1 ? 1 : (parts_of_a_thread * threads + choice.bands - 1) / choice.bands;
  const std::int64_t unit = std::max<std::int64_t>(1, choice.grouped / block);
  std::vector<std::int64_t> ends{slices.out_planes};  // of ranges, from the slice's first plane on
  if (slices.count == 1) ends = even_ranges(survivors, g.out.blocks(), unit, wanted);
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

// The geometry of one slice.
Geometry sliced(const Weighted& layer) {
  Geometry geometry = layer.geometry;
  if (const Slices slices = slices_of(layer); slices.count > 1) geometry.in.channels = slices.in_planes * block;
  return geometry;
}

// What sparse and dense tiles have in common: the tasks, and what happens to finished sums.
class Tiles : public Step {
 public:
  Tiles(const Weighted& layer, const Survivors& survivors, const View& view, const Choice& choice, const Operands& operands,
        int threads, const Kernels& kernels)
      : kernels_(kernels),
        vectors_(choice.vectors),
        output_(layer.geometry.out),
        to_(layer.to),
        addition_(layer.addition),
        swapped_(layer.addition_swapped),
        operands_(operands),
        multipliers_(layer.multipliers),
        slice_bytes_(slices_of(layer).in_planes * layer.geometry.in.pitch()),
        tasks_(tasks_of(layer, choice, survivors, threads, kernels)),
        initial_(initial_sums(layer)) {
    const auto padded = static_cast<std::size_t>(rounded_up(output_.channels, most_grouped));
    multipliers_.resize(padded, 1.0F);
    initial_.resize(padded, 0);
    reads = operands.inputs;
    writes = {operands.output};
    if (view.kind != ViewKind::in_place) copier_ = copier_of(view, sliced(layer), layer.input_zero_point, kernels);
  }

  std::int64_t parts() const final { return static_cast<std::int64_t>(tasks_.size()); }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const final {
    const Task& task = tasks_[static_cast<std::size_t>(part)];
    const std::uint8_t* from = activations(task, memory, scratch);
    for (std::int64_t vector = task.first_vector; vector < task.last_vector; vector += vectors_) {
      const Tile tile{vector, static_cast<int>(std::min<std::int64_t>(vectors_, task.last_vector - vector))};
      run_tile(task, tile, from + (vector - task.first_vector) * kernels_.lanes * block, memory, scratch);
    }
  }

 protected:
  // `from` is what offsets of the view are relative to, for this tile.
  virtual void run_tile(const Task& task, const Tile& tile, const std::uint8_t* from, const Memory& memory,
                        Scratch& scratch) const = 0;

  // Four channels' sums of one tile, a tile apart, become one run of pixels of the output.
  void finish(const Tile& tile, std::int64_t plane, const std::int32_t* sums, const Memory& memory, Scratch& scratch) const {
    const std::int64_t at = plane * output_.pitch() + tile.vector * kernels_.lanes * block;
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    const float* multipliers = multipliers_.data() + plane * block;
    std::uint8_t* out = memory.at(operands_.output) + at;
    if (!addition_) {
      kernels_.requantize(sums, stride, tile.vectors, multipliers, to_, out);
      return;
    }
    kernels_.requantize(sums, stride, tile.vectors, multipliers, to_, scratch.bytes);
    const std::uint8_t* other = memory.at(operands_.inputs[1]) + at;
    kernels_.add(swapped_ ? other : scratch.bytes, swapped_ ? scratch.bytes : other, stride * block, *addition_, out);
  }

  const Kernels& kernels_;
  const int vectors_;
  const Layout output_;
  const Requantization to_;
  const std::optional<Addition> addition_;
  const bool swapped_;
  const Operands operands_;
  std::vector<float> multipliers_;
  const std::int64_t slice_bytes_;  // of the input
  const std::vector<Task> tasks_;
  std::vector<std::int32_t> initial_;

 private:
  // A band's copies serve all of its parts that a thread computes one after the other.
  const std::uint8_t* activations(const Task& task, const Memory& memory, Scratch& scratch) const {
    const std::uint8_t* in = memory.at(operands_.inputs[0]) + task.slice * slice_bytes_;
    if (!copier_) return in + task.first_vector * kernels_.lanes * block;
    if (scratch.copied_for != this || scratch.copied_slice != task.slice || scratch.copied_band != task.band) {
      copier_->make(in, task.row, scratch.copies);
      scratch.copied_for = this;
      scratch.copied_slice = task.slice;
      scratch.copied_band = task.band;
    }
    return scratch.copies;
  }

  std::unique_ptr<Copier> copier_;  // none where the view is in place
};

class SparseTiles final : public Tiles {
 public:
  SparseTiles(const Weighted& layer, const Survivors& survivors, const View& view, const Choice& choice, const Operands& operands,
              int threads, const Kernels& kernels)
      : Tiles(layer, survivors, view, choice, operands, threads, kernels), passes_(choice.passes) {
    const std::size_t planes = (survivors.planes + static_cast<std::size_t>(passes_) - 1) / static_cast<std::size_t>(passes_);
    MemoryOrder order(view, survivors);
    std::vector<std::vector<Entry>> lists(static_cast<std::size_t>(passes_));
    std::vector<std::vector<std::int64_t>> ends(lists.size(), {0});
    for (std::size_t o = 0; o < initial_.size(); ++o) {
      if (o < survivors.channels()) order.add(survivors, o, 0, 1);
      order.drain(1, [&](std::size_t rank, const std::uint32_t* word) {
        const std::size_t pass = passes_ == 1 ? 0 : order.key(rank) % survivors.planes / planes;
        lists[pass].push_back(static_cast<Entry>(order.offset(rank)) << 32U | *word);
      });
      for (std::size_t pass = 0; pass < lists.size(); ++pass) {
        // Whole turns of the kernel's loop; an entry of zero weights costs less than a turn of its own.
        std::vector<Entry>& list = lists[pass];
        while ((list.size() - static_cast<std::size_t>(ends[pass].back())) % static_cast<std::size_t>(sets_of(choice.vectors)) !=
               0) {
          list.push_back(list.back() >> 32U << 32U);
        }
        ends[pass].push_back(static_cast<std::int64_t>(list.size()));
      }
    }
    for (std::size_t pass = 0; pass < lists.size(); ++pass) {
      for (const std::int64_t end : ends[pass]) starts_.push_back(static_cast<std::int64_t>(entries_.size()) + end);
      entries_.insert(entries_.end(), lists[pass].begin(), lists[pass].end());
    }
  }

  void run_tile(const Task& task, const Tile& tile, const std::uint8_t* from, const Memory& memory,
                Scratch& scratch) const override {
    const SparseTile kernel = kernels_.sparse[tile.vectors];
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    // One pass needs only one output plane's sums at a time; several keep those of as many planes as there is room for.
    const std::int64_t room = passes_ == 1 ? 1 : static_cast<std::int64_t>(std::size(scratch.sums)) / (stride * block);
    for (std::int64_t first = task.first_plane; first < task.last_plane; first += room) {
      const std::int64_t last = std::min(first + room, task.last_plane);
      for (std::size_t pass = 0; pass < static_cast<std::size_t>(passes_); ++pass) {
        const std::int64_t* starts = starts_.data() + pass * (initial_.size() + 1) + first * block;
        const std::int32_t* initial = pass == 0 ? initial_.data() + first * block : nullptr;
        kernel(from, entries_.data(), starts, static_cast<int>((last - first) * block), initial, scratch.sums);
      }
      for (std::int64_t plane = first; plane < last; ++plane) {
        finish(tile, plane, scratch.sums + (plane - first) * block * stride, memory, scratch);
      }
    }
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(entries_.size() * sizeof(Entry)); }

 private:
  const int passes_;
  std::vector<Entry> entries_;
  std::vector<std::int64_t> starts_;  // by pass, then output channel, with an end
};

class DenseTiles final : public Tiles {
 public:
  DenseTiles(const Weighted& layer, const Survivors& survivors, const View& view, const Choice& choice, const Operands& operands,
             int threads, const Kernels& kernels)
      : Tiles(layer, survivors, view, choice, operands, threads, kernels), grouped_(choice.grouped) {
    const auto lanes = static_cast<std::size_t>(grouped_);
    MemoryOrder order(view, survivors);
    starts_.push_back(0);
    for (std::size_t first = 0; first < initial_.size(); first += lanes) {
      for (std::size_t g = 0; g < lanes && first + g < survivors.channels(); ++g) order.add(survivors, first + g, g, lanes);
      // The union of the channels' blocks; a channel that lacks one has zero weights there.
      order.drain(lanes, [&](std::size_t rank, const std::uint32_t* words) {
        records_.push_back(order.offset(rank));
        records_.insert(records_.end(), words, words + lanes);
      });
      starts_.push_back(static_cast<std::int64_t>(records_.size()));
    }
  }

  void run_tile(const Task& task, const Tile& tile, const std::uint8_t* from, const Memory& memory,
                Scratch& scratch) const override {
    const DenseTile kernel = kernels_.dense[grouped_][tile.vectors];
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    const std::int64_t at_once = std::max<std::int64_t>(1, grouped_ / block);  // output planes
    for (std::int64_t plane = task.first_plane; plane < task.last_plane; plane += at_once) {
      for (std::int64_t c = 0; c < at_once * block; c += grouped_) {
        const auto group = static_cast<std::size_t>((plane * block + c) / grouped_);
        const std::int64_t count = (starts_[group + 1] - starts_[group]) / (1 + grouped_);
        kernel(from, records_.data() + starts_[group], count, initial_.data() + plane * block + c, scratch.sums + c * stride);
      }
      const std::int64_t last = std::min(plane + at_once, task.last_plane);
      for (std::int64_t done = plane; done < last; ++done) {
        finish(tile, done, scratch.sums + (done - plane) * block * stride, memory, scratch);
      }
    }
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(records_.size() * sizeof(std::uint32_t)); }

 private:
  const int grouped_;
  std::vector<std::uint32_t> records_;
  std::vector<std::int64_t> starts_;  // by group
};

}  // namespace

View view_for(const Choice& choice, const Weighted& layer) {
  Geometry band = sliced(layer);
  if (choice.view != ViewKind::in_place) band.out.height = rows_of_a_band(layer.geometry, choice.bands);
  return View::make(choice.view, band);
}

bool possible(const Choice& choice, const Weighted& layer, const Kernels& kernels) {
  const auto views = View::possible(layer.geometry);
  return std::find(views.begin(), views.end(), choice.view) != views.end() &&
         possible(choice, view_for(choice, layer), layer, kernels);
}

bool possible(const Choice& choice, const View& view, const Weighted& layer, const Kernels& kernels) {
  if (layer.element != kernels.weights) return false;
  if (view.bytes > std::numeric_limits<std::uint32_t>::max()) return false;  // as offsets have
  const Slices slices = slices_of(layer);
  if (choice.passes > 1 && (choice.grouped > 1 || choice.passes > slices.in_planes)) return false;
  if (slices.count > 1 && slices.out_planes * block % choice.grouped != 0) return false;  // no group spans two
  // No band may be empty.
  if ((choice.bands - 1) * rows_of_a_band(layer.geometry, choice.bands) >= layer.geometry.out.height) return false;
  if (layer.geometry.out.pixels() == 1)
    return choice.vectors == 1 && choice.passes == 1 && (choice.grouped == 1 || choice.grouped == most_grouped);
  for (int vectors = 1; vectors <= choice.vectors; ++vectors) {  // the last tile may be any smaller one
    const bool known =
        choice.grouped == 1 ? kernels.sparse[vectors] != nullptr : kernels.dense[choice.grouped][vectors] != nullptr;
    if (!known) return false;
  }
  return true;
}

Computation compute(const Weighted& layer, const Survivors& survivors, const Choice& choice, const Operands& operands,
                    int threads, const Kernels& kernels) {
  Computation result;
  const View view = view_for(choice, layer);
  result.copies_bytes = view.bytes;
  if (layer.geometry.out.pixels() == 1) {
    result.step = single_pixel_step(layer, survivors, view, choice.grouped != 1, operands, kernels, result);
    return result;
  }
  const auto keep = [&](auto step) {
    result.weight_bytes = step->bytes();
    result.step = std::move(step);
  };
  if (choice.grouped == 1) {
    keep(std::make_unique<SparseTiles>(layer, survivors, view, choice, operands, threads, kernels));
  } else {
    keep(std::make_unique<DenseTiles>(layer, survivors, view, choice, operands, threads, kernels));
  }
  const double words = choice.grouped == 1
                           ? static_cast<double>(result.weight_bytes) / sizeof(Entry)
                           : static_cast<double>(result.weight_bytes) / 4.0 * choice.grouped / (1 + choice.grouped);
  result.issued_multiply_adds = words * block * static_cast<double>(rounded_up(layer.geometry.out.pixels(), kernels.lanes));
  return result;
}

}  // namespace paretrim
