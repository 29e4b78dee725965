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

Survivors surviving_blocks(const Weighted& layer) {
  const Geometry& g = layer.geometry;
  const std::int64_t positions = g.kernel.vertical * g.kernel.horizontal;
  const std::int64_t depth = g.in.channels / layer.groups;
  const std::int64_t outputs = g.out.channels / layer.groups;  // of one group
  Survivors survivors;
  survivors.planes = static_cast<std::size_t>(g.in.blocks());
  survivors.keys = static_cast<std::size_t>(positions) * survivors.planes;
  survivors.starts.push_back(0);
  for (std::int64_t o = 0; o < g.out.channels; ++o) {
    const std::int64_t first = o / outputs * depth;
    const std::int8_t* weight = layer.weight + o * depth * positions;
    for (std::int64_t plane = first / block; plane <= (first + depth - 1) / block; ++plane) {
      const std::int64_t begin = std::max<std::int64_t>(plane * block - first, 0);
      const std::int64_t end = std::min<std::int64_t>(plane * block + block - first, depth);
      for (std::int64_t position = 0; position < positions; ++position) {
        std::int8_t weights[block] = {};
        for (std::int64_t i = begin; i < end; ++i) weights[first + i - plane * block] = weight[i * positions + position];
        std::uint32_t word = 0;
        std::memcpy(&word, weights, sizeof word);
        if (word != 0) survivors.blocks.push_back({static_cast<std::uint32_t>(position * g.in.blocks() + plane), word});
      }
    }
    survivors.starts.push_back(survivors.blocks.size());
  }
  return survivors;
}

MemoryOrder::MemoryOrder(const View& view, const Survivors& survivors)
    : keys_(survivors.keys), ranks_(survivors.keys), present_((survivors.keys + 63) / 64) {
  std::vector<std::uint32_t> by_key;
  for (std::size_t key = 0; key < survivors.keys; ++key) {
    const auto position = static_cast<std::int64_t>(key / survivors.planes);
    by_key.push_back(static_cast<std::uint32_t>(view.offset(position, static_cast<std::int64_t>(key % survivors.planes))));
    keys_[key] = static_cast<std::uint32_t>(key);
  }
  std::sort(keys_.begin(), keys_.end(), [&](std::uint32_t a, std::uint32_t b) { return by_key[a] < by_key[b]; });
  for (std::size_t rank = 0; rank < keys_.size(); ++rank) {
    ranks_[keys_[rank]] = static_cast<std::uint32_t>(rank);
    offsets_.push_back(by_key[keys_[rank]]);
  }
}

void MemoryOrder::add(const Survivors& survivors, std::size_t channel, std::size_t lane, std::size_t lanes) {
  words_.resize(keys_.size() * lanes);
  for (std::size_t i = survivors.starts[channel]; i < survivors.starts[channel + 1]; ++i) {
    const std::size_t rank = ranks_[survivors.blocks[i].key];
    present_[rank / 64] |= std::uint64_t{1} << (rank % 64);
    words_[rank * lanes + lane] = survivors.blocks[i].word;
  }
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
