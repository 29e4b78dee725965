#include "plan/convolution.h"

#include <algorithm>
#include <limits>

#include "plan/single_pixel.h"

namespace paretrim {
namespace {

struct Task {
  std::int64_t vector;  // first of the tile
  int vectors;
  std::int64_t first_plane;  // of the output
  std::int64_t last_plane;
};

// Tiles of `vectors` registers of pixels, times ranges of output planes where there are fewer tiles than threads can share.
std::vector<Task> tasks_of(const Geometry& g, int vectors, int grouped, int threads, const Kernels& kernels) {
  const std::int64_t all = (g.out.pixels() + kernels.lanes - 1) / kernels.lanes;
  const std::int64_t tiles = (all + vectors - 1) / vectors;
  const std::int64_t unit = std::max<std::int64_t>(1, grouped / block);
  const std::int64_t planes = g.out.blocks();
  // Threads take parts as they come; several parts each even out what zeros and interruptions leave uneven.
  const std::int64_t wanted = threads == 1 ? 1 : (4 * threads + tiles - 1) / tiles;
  const std::int64_t step = rounded_up(std::max<std::int64_t>(1, (planes + wanted - 1) / wanted), unit);
  std::vector<Task> tasks;
  for (std::int64_t vector = 0; vector < all; vector += vectors) {
    const int here = static_cast<int>(std::min<std::int64_t>(vectors, all - vector));
    for (std::int64_t plane = 0; plane < planes; plane += step) {
      tasks.push_back({vector, here, plane, std::min(plane + step, planes)});
    }
  }
  return tasks;
}

// What sparse and dense tiles have in common: the tasks, and what happens to finished sums.
class Tiles : public Step {
 public:
  Tiles(const Weighted& layer, const View& view, const Choice& choice, const Operands& operands, int threads,
        const Kernels& kernels)
      : kernels_(kernels),
        output_(layer.geometry.out),
        to_(layer.to),
        addition_(layer.addition),
        swapped_(layer.addition_swapped),
        operands_(operands),
        source_(view.kind == ViewKind::columns || view.kind == ViewKind::positions ? operands.copies : operands.input),
        multipliers_(layer.multipliers),
        tasks_(tasks_of(layer.geometry, choice.vectors, choice.grouped, threads, kernels)),
        initial_(initial_sums(layer)) {
    const auto padded = static_cast<std::size_t>(rounded_up(output_.channels, most_grouped));
    multipliers_.resize(padded, 1.0F);
    initial_.resize(padded, 0);
    reads = {source_};
    if (addition_) reads.push_back(operands.added);
    writes = {operands.output};
    if (view.kind == ViewKind::tiles) {
      local_ = view;
      copies_.emplace(View::make(ViewKind::tiles, layer.geometry), layer.input_zero_point, kernels);
    }
  }

  std::int64_t parts() const final { return static_cast<std::int64_t>(tasks_.size()); }

 protected:
  // What offsets of the view are relative to, for this tile.
  const std::uint8_t* activations(const Task& task, const Memory& memory, Scratch& scratch) const {
    const std::int64_t pixel = task.vector * kernels_.lanes;
    if (!copies_) return memory.at(source_) + pixel * block;
    const Layout& in = local_.geometry.in;
    copies_->make(memory.at(source_), 0, in.blocks(), pixel / in.width, local_, scratch.copies);
    return scratch.copies;
  }

  // Four channels' sums of one tile, `stride` apart, become one run of pixels of the output.
  void finish(const Task& task, std::int64_t plane, const std::int32_t* sums, const Memory& memory, Scratch& scratch) const {
    const std::int64_t at = plane * output_.pitch() + task.vector * kernels_.lanes * block;
    const std::int64_t stride = static_cast<std::int64_t>(task.vectors) * kernels_.lanes;
    const float* multipliers = multipliers_.data() + plane * block;
    std::uint8_t* out = memory.at(operands_.output) + at;
    if (!addition_) {
      kernels_.requantize(sums, stride, task.vectors, multipliers, to_, out);
      return;
    }
    kernels_.requantize(sums, stride, task.vectors, multipliers, to_, scratch.bytes);
    const std::uint8_t* other = memory.at(operands_.added) + at;
    kernels_.add(swapped_ ? other : scratch.bytes, swapped_ ? scratch.bytes : other, stride * block, *addition_, out);
  }

  const Kernels& kernels_;
  const Layout output_;
  const Requantization to_;
  const std::optional<Addition> addition_;
  const bool swapped_;
  const Operands operands_;
  const Buffer source_;
  std::vector<float> multipliers_;
  const std::vector<Task> tasks_;
  std::vector<std::int32_t> initial_;
  View local_;                        // of one tile
  std::optional<FlatCopies> copies_;  // where they are made tile by tile
};

// A view of all rows, or of one tile's.
View view_for(const Choice& choice, const Geometry& geometry, const Kernels& kernels) {
  if (choice.view != ViewKind::tiles) return View::make(choice.view, geometry);
  Geometry tile = geometry;
  tile.out.height = std::min(geometry.out.height, choice.vectors * kernels.lanes / geometry.out.width);
  return View::make(choice.view, tile);
}

// Tiles of whole rows that begin where a word of masks does, whose copies fit into the scratch.
bool tiles_fit(const Choice& choice, const Geometry& g, const Kernels& kernels) {
  const std::int64_t pixels = static_cast<std::int64_t>(choice.vectors) * kernels.lanes;
  return pixels % g.out.width == 0 && pixels % most_lanes == 0 && pixels < g.out.pixels() &&
         view_for(choice, g, kernels).bytes <= static_cast<std::int64_t>(sizeof(Scratch::copies));
}

class SparseTiles final : public Tiles {
 public:
  SparseTiles(const Weighted& layer, const Survivors& survivors, const View& view, const Choice& choice, const Operands& operands,
              int threads, const Kernels& kernels)
      : Tiles(layer, view, choice, operands, threads, kernels), passes_(choice.passes) {
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
        while ((list.size() - static_cast<std::size_t>(ends[pass].back())) % static_cast<std::size_t>(sets_of(choice.vectors)) != 0) {
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

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    const Task& task = tasks_[static_cast<std::size_t>(part)];
    const SparseTile tile = kernels_.sparse[task.vectors];
    const std::uint8_t* from = activations(task, memory, scratch);
    const std::int64_t stride = static_cast<std::int64_t>(task.vectors) * kernels_.lanes;
    // One pass needs only one output plane's sums at a time; several keep those of as many planes as there is room for.
    const std::int64_t room = passes_ == 1 ? 1 : static_cast<std::int64_t>(std::size(scratch.sums)) / (stride * block);
    for (std::int64_t first = task.first_plane; first < task.last_plane; first += room) {
      const std::int64_t last = std::min(first + room, task.last_plane);
      for (std::size_t pass = 0; pass < static_cast<std::size_t>(passes_); ++pass) {
        const std::int64_t* starts = starts_.data() + pass * (initial_.size() + 1) + first * block;
        const std::int32_t* initial = pass == 0 ? initial_.data() + first * block : nullptr;
        tile(from, entries_.data(), starts, static_cast<int>((last - first) * block), initial, scratch.sums);
      }
      for (std::int64_t plane = first; plane < last; ++plane) {
        finish(task, plane, scratch.sums + (plane - first) * block * stride, memory, scratch);
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
      : Tiles(layer, view, choice, operands, threads, kernels), grouped_(choice.grouped) {
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

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    const Task& task = tasks_[static_cast<std::size_t>(part)];
    const DenseTile tile = kernels_.dense[grouped_][task.vectors];
    const std::uint8_t* from = activations(task, memory, scratch);
    const std::int64_t stride = static_cast<std::int64_t>(task.vectors) * kernels_.lanes;
    const std::int64_t at_once = std::max<std::int64_t>(1, grouped_ / block);  // output planes
    for (std::int64_t plane = task.first_plane; plane < task.last_plane; plane += at_once) {
      for (std::int64_t c = 0; c < at_once * block; c += grouped_) {
        const auto group = static_cast<std::size_t>((plane * block + c) / grouped_);
        const std::int64_t count = (starts_[group + 1] - starts_[group]) / (1 + grouped_);
        tile(from, records_.data() + starts_[group], count, initial_.data() + plane * block + c, scratch.sums + c * stride);
      }
      const std::int64_t last = std::min(plane + at_once, task.last_plane);
      for (std::int64_t done = plane; done < last; ++done) {
        finish(task, done, scratch.sums + (done - plane) * block * stride, memory, scratch);
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

bool possible(const Choice& choice, const Weighted& layer, const Kernels& kernels) {
  const auto views = View::possible(layer.geometry);
  if (std::find(views.begin(), views.end(), choice.view) == views.end()) return false;
  if (View::make(choice.view, layer.geometry).bytes > std::numeric_limits<std::uint32_t>::max()) return false;  // as offsets have
  if (choice.passes > 1 && (choice.grouped > 1 || choice.passes > layer.geometry.in.blocks())) return false;
  if (layer.geometry.out.pixels() == 1) return choice.vectors == 1 && choice.passes == 1 && (choice.grouped == 1 || choice.grouped == most_grouped);
  if (choice.view == ViewKind::tiles && !tiles_fit(choice, layer.geometry, kernels)) return false;
  for (int vectors = 1; vectors <= choice.vectors; ++vectors) {  // the last tile may be any smaller one
    const bool known = choice.grouped == 1 ? kernels.sparse[vectors] != nullptr : kernels.dense[choice.grouped][vectors] != nullptr;
    if (!known) return false;
  }
  return true;
}

Computation compute(const Weighted& layer, const Survivors& survivors, const Choice& choice, const Operands& operands, int threads,
                    const Kernels& kernels) {
  Computation result;
  const View view = view_for(choice, layer.geometry, kernels);
  if (choice.view == ViewKind::columns || choice.view == ViewKind::positions) {
    result.view_bytes = view.bytes;
    result.steps.push_back(pack_step(view, layer.input_zero_point, operands.input, operands.copies, kernels));
  }
  if (layer.geometry.out.pixels() == 1) {
    result.steps.push_back(single_pixel_step(layer, survivors, view, choice.grouped != 1, operands, kernels, result));
    return result;
  }
  const auto keep = [&](auto step) {
    result.weight_bytes = step->bytes();
    result.steps.push_back(std::move(step));
  };
  if (choice.grouped == 1) {
    keep(std::make_unique<SparseTiles>(layer, survivors, view, choice, operands, threads, kernels));
  } else {
    keep(std::make_unique<DenseTiles>(layer, survivors, view, choice, operands, threads, kernels));
  }
  const double words = choice.grouped == 1 ? static_cast<double>(result.weight_bytes) / sizeof(Entry)
                                           : static_cast<double>(result.weight_bytes) / 4.0 * choice.grouped / (1 + choice.grouped);
  result.issued_multiply_adds = words * block * static_cast<double>(rounded_up(layer.geometry.out.pixels(), kernels.lanes));
  return result;
}

}  // namespace paretrim
