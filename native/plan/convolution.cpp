#include "plan/convolution.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "plan/float_pixel.h"
#include "plan/single_pixel.h"
#include "plan/tasks.h"

namespace paretrim {
namespace {

// Consecutive registers of a band.
struct Tile {
  std::int64_t vector;  // the first one
  int vectors;
};

SparseTile sparse_tile(const Kernels& kernels, Element element, int vectors) {
  return element == Element::int8 ? kernels.sparse[vectors] : kernels.float_sparse[vectors];
}

DenseTile dense_tile(const Kernels& kernels, Element element, int grouped, int vectors) {
  return element == Element::int8 ? kernels.dense[grouped][vectors] : kernels.float_dense[grouped][vectors];
}

// The geometry of one slice.
Geometry slice_geometry(const WeightedLayer& layer) {
  Geometry geometry = layer.geometry;
  if (const Slices slices = slices_of(layer); slices.count > 1) geometry.in.channels = slices.in_planes * block;
  return geometry;
}

// Base of sparse and dense tiles: distributes the tasks and requantizes the sums.
class Tiles : public Step {
 public:
  Tiles(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, const Choice& choice,
        const Operands& operands, int threads, const Kernels& kernels)
      : kernels_(kernels),
        vectors_(choice.vectors),
        output_(layer.geometry.out),
        to_(layer.to),
        addition_(layer.addition),
        swapped_(layer.addition_swapped),
        element_(layer.element),
        channels_(layer.channels_per_plane()),
        low_(layer.low),
        high_(layer.high),
        operands_(operands),
        multipliers_(layer.multipliers),
        slice_bytes_(slices_of(layer).in_planes * layer.geometry.in.pitch()),
        tasks_(tasks_of(layer, choice, nonzero, threads, kernels)),
        initial_(initial_sums(layer)) {
    const auto padded = static_cast<std::size_t>(rounded_up(layer.outputs(), max_grouped));
    multipliers_.resize(padded, 1.0F);
    initial_.resize(padded, 0);
    reads = operands.inputs;
    writes = {operands.output};
    if (view.kind != ViewKind::in_place) copier_ = copier_of(view, slice_geometry(layer), layer.input_zero_point, kernels);
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
  // The view's offsets are relative to `from`.
  virtual void run_tile(const Task& task, const Tile& tile, const std::uint8_t* from, const Memory& memory,
                        Scratch& scratch) const = 0;

  // Turns the sums of one plane's channels, one tile after another, into pixels of the output.
  void finish(const Tile& tile, std::int64_t plane, const std::int32_t* sums, const Memory& memory, Scratch& scratch) const {
    const std::int64_t at = plane * output_.pitch() + tile.vector * kernels_.lanes * block;
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    const float* multipliers = multipliers_.data() + plane * block;
    std::uint8_t* out = memory.at(operands_.output) + at;
    if (element_ == Element::float32) {
      const auto* other = addition_ ? reinterpret_cast<const float*>(memory.at(operands_.inputs[1]) + at) : nullptr;
      kernels_.finish_floats(reinterpret_cast<const float*>(sums), other, stride, low_, high_, reinterpret_cast<float*>(out));
      return;
    }
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
  const Element element_;
  const std::int64_t channels_;  // per plane
  const float low_;
  const float high_;
  const Operands operands_;
  std::vector<float> multipliers_;
  const std::int64_t slice_bytes_;  // of the input
  const std::vector<Task> tasks_;
  std::vector<std::int32_t> initial_;

 private:
  // Makes the copies of a band, or reuses them if this thread's last part had the same band.
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

  std::unique_ptr<Copier> copier_;  // null if the view is in place
};

class SparseTiles final : public Tiles {
 public:
  SparseTiles(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, const Choice& choice,
              const Operands& operands, int threads, const Kernels& kernels)
      : Tiles(layer, nonzero, view, choice, operands, threads, kernels), passes_(choice.passes) {
    const std::size_t planes = (nonzero.planes() + static_cast<std::size_t>(passes_) - 1) / static_cast<std::size_t>(passes_);
    BlockOrder order(view, nonzero, kernels);
    std::vector<Room<Entry>> lists(static_cast<std::size_t>(passes_));
    std::vector<std::vector<std::int64_t>> ends(lists.size(), {0});
    for (std::size_t o = 0; o < initial_.size(); ++o) {
      order.each(nonzero, o, 1, [&](std::size_t rank, const std::uint32_t* word) {
        const std::size_t pass = passes_ == 1 ? 0 : order.key(rank) % nonzero.planes() / planes;
        lists[pass].push_back(static_cast<Entry>(order.offset(rank)) << 32U | *word);
      });
      for (std::size_t pass = 0; pass < lists.size(); ++pass) {
        // Pads to whole iterations of the kernel's main loop: entries of zero weights cost less than the remainder loop.
        Room<Entry>& list = lists[pass];
        const int turn = element_ == Element::int8 ? sets_of(choice.vectors) : 1;
        while ((list.size() - static_cast<std::size_t>(ends[pass].back())) % static_cast<std::size_t>(turn) != 0) {
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
    const SparseTile kernel = sparse_tile(kernels_, element_, tile.vectors);
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    // A single pass needs the sums of one output plane at a time. Several passes keep the sums of as many planes as fit.
    const std::int64_t room = passes_ == 1 ? 1 : static_cast<std::int64_t>(std::size(scratch.sums)) / (stride * channels_);
    for (std::int64_t first = task.first_plane; first < task.last_plane; first += room) {
      const std::int64_t last = std::min(first + room, task.last_plane);
      for (std::size_t pass = 0; pass < static_cast<std::size_t>(passes_); ++pass) {
        const std::int64_t* starts = starts_.data() + pass * (initial_.size() + 1) + first * channels_;
        const std::int32_t* initial = pass == 0 ? initial_.data() + first * channels_ : nullptr;
        kernel(from, entries_.data(), starts, static_cast<int>((last - first) * channels_), initial, scratch.sums);
      }
      for (std::int64_t plane = first; plane < last; ++plane) {
        finish(tile, plane, scratch.sums + (plane - first) * channels_ * stride, memory, scratch);
      }
    }
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(entries_.size() * sizeof(Entry)); }

 private:
  const int passes_;
  Room<Entry> entries_;
  std::vector<std::int64_t> starts_;  // by pass, then output channel; each pass has an end too
};

class DenseTiles final : public Tiles {
 public:
  DenseTiles(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, const Choice& choice,
             const Operands& operands, int threads, const Kernels& kernels)
      : Tiles(layer, nonzero, view, choice, operands, threads, kernels), grouped_(choice.grouped) {
    const auto lanes = static_cast<std::size_t>(grouped_);
    BlockOrder order(view, nonzero, kernels);
    starts_.push_back(0);
    const std::size_t groups = (nonzero.channels() + lanes - 1) / lanes;
    records_.reserve(std::min(nonzero.keys() * groups, nonzero.size()) * (1 + lanes));  // an upper bound, to avoid copies
    for (std::size_t first = 0; first < initial_.size(); first += lanes) {
      const std::size_t last = std::min(first + lanes, nonzero.channels());
      if (first < last && nonzero.whole(first, last)) {
        add_rows(order, nonzero, first, last);
      } else {
        // The union of the channels' blocks. A channel without a block gets zero weights.
        order.each(nonzero, first, lanes, [&](std::size_t rank, const std::uint32_t* words) {
          records_.push_back(order.offset(rank));
          records_.insert(records_.end(), words, words + lanes);
        });
      }
      starts_.push_back(static_cast<std::int64_t>(records_.size()));
    }
    if (records_.size() < records_.capacity() / 2) records_.shrink_to_fit();
  }

  void run_tile(const Task& task, const Tile& tile, const std::uint8_t* from, const Memory& memory,
                Scratch& scratch) const override {
    const DenseTile kernel = dense_tile(kernels_, element_, grouped_, tile.vectors);
    const std::int64_t stride = static_cast<std::int64_t>(tile.vectors) * kernels_.lanes;
    const std::int64_t at_once = std::max<std::int64_t>(1, grouped_ / channels_);  // output planes
    for (std::int64_t plane = task.first_plane; plane < task.last_plane; plane += at_once) {
      for (std::int64_t c = 0; c < at_once * channels_; c += grouped_) {
        const auto group = static_cast<std::size_t>((plane * channels_ + c) / grouped_);
        const std::int64_t count = (starts_[group + 1] - starts_[group]) / (1 + grouped_);
        kernel(from, records_.data() + starts_[group], count, initial_.data() + plane * channels_ + c, scratch.sums + c * stride);
      }
      const std::int64_t last = std::min(plane + at_once, task.last_plane);
      for (std::int64_t done = plane; done < last; ++done) {
        finish(tile, done, scratch.sums + (done - plane) * channels_ * stride, memory, scratch);
      }
    }
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(records_.size() * sizeof(std::uint32_t)); }

 private:
  // Channels without zeros: their rows, transposed.
  void add_rows(const BlockOrder& order, const NonzeroBlocks& nonzero, std::size_t first, std::size_t last) {
    const std::size_t size = nonzero.row_size(), base = nonzero.first_rank(first), at = records_.size();
    const auto apart = static_cast<std::size_t>(1 + grouped_);
    records_.resize(at + size * apart);
    std::uint32_t* const to = records_.data() + at;
    for (std::size_t i = 0; i < size; ++i) to[i * apart] = order.offset(base + i);
    constexpr std::size_t at_once = 16;  // of each row a cache line
    for (std::size_t start = 0; start < size; start += at_once) {
      const std::size_t count = std::min(at_once, size - start);
      for (std::size_t channel = first; channel < last; ++channel) {
        std::array<std::uint32_t, at_once> words;
        std::memcpy(words.data(), nonzero.row(channel) + start, count * sizeof(float));
        std::uint32_t* place = to + start * apart + 1 + channel - first;
        for (std::size_t i = 0; i < count; ++i, place += apart) *place = words[i];
      }
    }
  }

  const int grouped_;
  Room<std::uint32_t> records_;
  std::vector<std::int64_t> starts_;  // by group
};

}  // namespace

View view_for(const Choice& choice, const WeightedLayer& layer) {
  const Geometry whole = slice_geometry(layer);
  const bool copied = choice.view != ViewKind::in_place;
  return View::make(choice.view, whole, copied ? rows_per_band(whole, choice.bands) : whole.out.height);
}

namespace {

// Whether the dense weight rows of a single-pixel layer, each as long as the view, would be far larger than the layer's weights.
// With many groups they are mostly zeros, and their memory grows with the square of the channels.
bool mostly_padding(const View& view, const WeightedLayer& layer) {
  constexpr double spare = 1 << 20;
  const Geometry& g = layer.geometry;
  const auto row = static_cast<double>(view.kind == ViewKind::in_place ? g.in.bytes() : view.bytes);
  const double weights = static_cast<double>(g.out.channels) * static_cast<double>(g.in.bytes() / g.in.pixels()) *
                         static_cast<double>(g.kernel.vertical * g.kernel.horizontal) / static_cast<double>(layer.groups);
  return row * static_cast<double>(g.out.channels) > 16 * (weights + spare);
}

}  // namespace

bool possible(const Choice& choice, const WeightedLayer& layer, const Kernels& kernels) {
  if (layer.geometry.kernel.vertical * layer.geometry.kernel.horizontal > max_positions) return false;
  const auto views = View::possible(layer.geometry);
  return std::find(views.begin(), views.end(), choice.view) != views.end() &&
         possible(choice, view_for(choice, layer), layer, kernels);
}

bool possible(const Choice& choice, const View& view, const WeightedLayer& layer, const Kernels& kernels) {
  if (view.bytes > max_copied_bytes) return false;
  const Slices slices = slices_of(layer);
  if (choice.passes > 1 && (choice.grouped > 1 || choice.passes > slices.in_planes)) return false;
  if (slices.count > 1 && slices.out_planes * layer.channels_per_plane() % choice.grouped != 0)
    return false;  // a group may not span two slices
  // No band may be empty.
  if ((choice.bands - 1) * rows_per_band(layer.geometry, choice.bands) >= layer.geometry.out.height) return false;
  if (layer.geometry.out.pixels() == 1)
    return choice.vectors == 1 && choice.passes == 1 &&
           (choice.grouped == 1 || (choice.grouped == max_grouped && !mostly_padding(view, layer)));
  for (int vectors = 1; vectors <= choice.vectors; ++vectors) {  // the last tile of a band may have any smaller size
    const bool exists = choice.grouped == 1 ? sparse_tile(kernels, layer.element, vectors) != nullptr
                                            : dense_tile(kernels, layer.element, choice.grouped, vectors) != nullptr;
    if (!exists) return false;
  }
  return true;
}

Computation compute(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const Choice& choice, const Operands& operands,
                    int threads, const Kernels& kernels) {
  Computation result;
  const View view = view_for(choice, layer);
  result.copies_bytes = view.bytes;
  if (layer.geometry.out.pixels() == 1) {
    result.step = layer.element == Element::int8
                      ? single_pixel_step(layer, nonzero, view, choice.grouped != 1, operands, kernels, result)
                      : float_pixel_step(layer, nonzero, view, choice.grouped != 1, operands, kernels, result);
    return result;
  }
  const auto keep = [&](auto step) {
    result.weight_bytes = step->bytes();
    result.step = std::move(step);
  };
  if (choice.grouped == 1) {
    keep(std::make_unique<SparseTiles>(layer, nonzero, view, choice, operands, threads, kernels));
  } else {
    keep(std::make_unique<DenseTiles>(layer, nonzero, view, choice, operands, threads, kernels));
  }
  const double words = choice.grouped == 1
                           ? static_cast<double>(result.weight_bytes) / sizeof(Entry)
                           : static_cast<double>(result.weight_bytes) / 4.0 * choice.grouped / (1 + choice.grouped);
  result.issued_multiply_adds = words * static_cast<double>(layer.channels_per_plane()) *
                                static_cast<double>(rounded_up(layer.geometry.out.pixels(), kernels.lanes));
  return result;
}

}  // namespace paretrim
