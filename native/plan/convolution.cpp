#include "plan/convolution.h"

#include <algorithm>
#include <cstring>

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

}  // namespace

Entry entry_of(const Block& one, const View& view) {
  std::uint32_t word = 0;
  std::memcpy(&word, one.weights.data(), sizeof word);
  return static_cast<Entry>(view.offset(one.position, one.plane)) << 32U | word;
}

namespace {

class SparseTiles final : public Tiles {
 public:
  SparseTiles(const Weighted& layer, const Rows& rows, const View& view, const Choice& choice, const Operands& operands,
              int threads, const Kernels& kernels)
      : Tiles(layer, view, choice, operands, threads, kernels), passes_(choice.passes) {
    const std::int64_t planes = (layer.geometry.in.blocks() + passes_ - 1) / passes_;  // of one pass
    std::vector<Entry> list;
    for (std::int64_t pass = 0; pass < passes_; ++pass) {
      for (std::size_t o = 0; o < initial_.size(); ++o) {
        starts_.push_back(static_cast<std::int64_t>(entries_.size()));
        if (o >= rows.size()) continue;
        list.clear();
        for (const Block& one : rows[o]) {
          if (one.plane / planes == pass) list.push_back(entry_of(one, view));
        }
        std::sort(list.begin(), list.end());  // memory order: offsets are the high halves
        // Whole turns of the kernel's loop; an entry of zero weights costs less than a turn of its own.
        while (list.size() % static_cast<std::size_t>(sets_of(choice.vectors)) != 0) list.push_back(list.back() >> 32U << 32U);
        entries_.insert(entries_.end(), list.begin(), list.end());
      }
      starts_.push_back(static_cast<std::int64_t>(entries_.size()));
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
  DenseTiles(const Weighted& layer, const Rows& rows, const View& view, const Choice& choice, const Operands& operands,
             int threads, const Kernels& kernels)
      : Tiles(layer, view, choice, operands, threads, kernels), grouped_(choice.grouped) {
    starts_.push_back(0);
    for (std::size_t first = 0; first < initial_.size(); first += static_cast<std::size_t>(grouped_)) {
      add_group(rows, first, view);
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
  // The union of the channels' blocks, in memory order; a channel that lacks one has zero weights there.
  void add_group(const Rows& rows, std::size_t first, const View& view) {
    struct Item {
      std::uint32_t offset;
      std::uint32_t channel;
      std::uint32_t word;
    };
    std::vector<Item> items;
    for (std::size_t g = 0; g < static_cast<std::size_t>(grouped_) && first + g < rows.size(); ++g) {
      for (const Block& one : rows[first + g]) {
        Item item{static_cast<std::uint32_t>(view.offset(one.position, one.plane)), static_cast<std::uint32_t>(g), 0};
        std::memcpy(&item.word, one.weights.data(), sizeof item.word);
        items.push_back(item);
      }
    }
    std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.offset < b.offset; });
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i == 0 || items[i].offset != items[i - 1].offset) {
        records_.push_back(items[i].offset);
        records_.resize(records_.size() + static_cast<std::size_t>(grouped_), 0);
      }
      records_[records_.size() - static_cast<std::size_t>(grouped_) + items[i].channel] = items[i].word;
    }
  }

  const int grouped_;
  std::vector<std::uint32_t> records_;
  std::vector<std::int64_t> starts_;  // by group
};

}  // namespace

Rows surviving_blocks(const Weighted& layer) {
  const Geometry& g = layer.geometry;
  const std::int64_t positions = g.kernel.vertical * g.kernel.horizontal;
  const std::int64_t depth = g.in.channels / layer.groups;
  const std::int64_t outputs = g.out.channels / layer.groups;  // of one group
  Rows rows(static_cast<std::size_t>(g.out.channels));
  for (std::int64_t o = 0; o < g.out.channels; ++o) {
    const std::int64_t first = o / outputs * depth;
    const std::int8_t* weight = layer.weight + o * depth * positions;
    auto& row = rows[static_cast<std::size_t>(o)];
    for (std::int64_t plane = first / block; plane <= (first + depth - 1) / block; ++plane) {
      for (std::int64_t position = 0; position < positions; ++position) {
        Block one{static_cast<std::int32_t>(position), static_cast<std::int32_t>(plane), {}};
        bool alive = false;
        for (std::int64_t lane = 0; lane < block; ++lane) {
          const std::int64_t i = plane * block + lane - first;
          if (i < 0 || i >= depth) continue;
          one.weights[static_cast<std::size_t>(lane)] = weight[i * positions + position];
          alive = alive || weight[i * positions + position] != 0;
        }
        if (alive) row.push_back(one);
      }
    }
  }
  return rows;
}

std::vector<std::int32_t> initial_sums(const Weighted& layer) {
  const Geometry& g = layer.geometry;
  const std::int64_t each = g.in.channels / layer.groups * g.kernel.vertical * g.kernel.horizontal;
  std::vector<std::int32_t> initial(static_cast<std::size_t>(g.out.channels));
  for (std::int64_t o = 0; o < g.out.channels; ++o) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < each; ++i) sum += layer.weight[o * each + i];
    const auto start = static_cast<std::uint32_t>(layer.bias[o]) - static_cast<std::uint32_t>(layer.input_zero_point * sum);
    initial[static_cast<std::size_t>(o)] = static_cast<std::int32_t>(start);
  }
  return initial;
}

std::string text_of(const Choice& choice) {
  const std::string tile = std::to_string(choice.vectors) + " x " + std::to_string(choice.grouped);
  return std::string(name_of(choice.view)) + ", " + tile + (choice.passes > 1 ? ", " + std::to_string(choice.passes) + " passes" : "");
}

std::optional<Choice> choice_from(const std::string& text) {
  for (const ViewKind view : {ViewKind::in_place, ViewKind::columns, ViewKind::positions, ViewKind::tiles}) {
    for (int vectors = 1; vectors <= most_vectors; ++vectors) {
      for (int grouped = 1; grouped <= most_grouped; grouped *= 2) {
        for (int passes = 1; passes <= (grouped == 1 ? most_passes : 1); passes *= 2) {
          const Choice choice{view, vectors, grouped, passes};
          if (text_of(choice) == text) return choice;
        }
      }
    }
  }
  return std::nullopt;
}

bool possible(const Choice& choice, const Weighted& layer, const Kernels& kernels) {
  const auto views = View::possible(layer.geometry);
  if (std::find(views.begin(), views.end(), choice.view) == views.end()) return false;
  if (choice.passes > 1 && (choice.grouped > 1 || choice.passes > layer.geometry.in.blocks())) return false;
  if (layer.geometry.out.pixels() == 1) return choice.vectors == 1 && choice.passes == 1 && (choice.grouped == 1 || choice.grouped == most_grouped);
  if (choice.view == ViewKind::tiles && !tiles_fit(choice, layer.geometry, kernels)) return false;
  for (int vectors = 1; vectors <= choice.vectors; ++vectors) {  // the last tile may be any smaller one
    const bool known = choice.grouped == 1 ? kernels.sparse[vectors] != nullptr : kernels.dense[choice.grouped][vectors] != nullptr;
    if (!known) return false;
  }
  return true;
}

Computation compute(const Weighted& layer, const Rows& rows, const Choice& choice, const Operands& operands, int threads,
                    const Kernels& kernels) {
  Computation result;
  const View view = view_for(choice, layer.geometry, kernels);
  if (choice.view == ViewKind::columns || choice.view == ViewKind::positions) {
    result.view_bytes = view.bytes;
    result.steps.push_back(pack_step(view, layer.input_zero_point, operands.input, operands.copies, kernels));
  }
  if (layer.geometry.out.pixels() == 1) {
    result.steps.push_back(single_pixel_step(layer, rows, view, choice.grouped != 1, operands, kernels, result));
    return result;
  }
  const auto keep = [&](auto step) {
    result.weight_bytes = step->bytes();
    result.steps.push_back(std::move(step));
  };
  if (choice.grouped == 1) {
    keep(std::make_unique<SparseTiles>(layer, rows, view, choice, operands, threads, kernels));
  } else {
    keep(std::make_unique<DenseTiles>(layer, rows, view, choice, operands, threads, kernels));
  }
  const double words = choice.grouped == 1 ? static_cast<double>(result.weight_bytes) / sizeof(Entry)
                                           : static_cast<double>(result.weight_bytes) / 4.0 * choice.grouped / (1 + choice.grouped);
  result.issued_multiply_adds = words * block * static_cast<double>(rounded_up(layer.geometry.out.pixels(), kernels.lanes));
  return result;
}

}  // namespace paretrim
