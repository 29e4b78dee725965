// Convolutions and linear layers: weights packed for a view and a tile, the steps that compute them, and the choice among them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan/view.h"
#include "threads/pool.h"

namespace paretrim {

// A convolution or linear layer (then 1x1 on one pixel) as the graph states it.
struct WeightedLayer {
  Geometry geometry;
  std::int64_t groups = 1;
  Element element = Element::int8;
  const std::int8_t* weight = nullptr;  // [outputs][inputs / groups][kernel]
  const std::int32_t* bias = nullptr;
  const float* float_weight = nullptr;                  // of a float32 layer, instead of the two above
  const float* float_bias = nullptr;                    // may be missing
  float low = -std::numeric_limits<float>::infinity();  // what a float32 result is clamped to
  float high = std::numeric_limits<float>::infinity();
  std::vector<float> multipliers;  // by output: input scale * weight scale (/ output scale where the result is uint8)
  std::uint8_t input_zero_point = 0;
  bool float_result = false;  // logits
  Requantization to;
  std::optional<Addition> addition;  // of a fused add; in float32 it says nothing more
  bool addition_swapped = false;     // whether the convolution is its second operand

  std::int64_t channels_of_a_plane() const { return element == Element::int8 ? block : 1; }
  std::int64_t outputs() const { return geometry.out.channels / (element == Element::int8 ? 1 : block); }
};

// Parts of a grouped convolution that share no channel: `count` of them in sequence, of this many planes each. Each is computed
// like a separate convolution, so that the copies of its few planes are read while they are in the cache. One, if groups share
// planes.
struct Slices {
  std::int64_t count = 1;
  std::int64_t in_planes = 0;
  std::int64_t out_planes = 0;
};
Slices slices_of(const WeightedLayer& layer);

// The weights of one output channel on one plane that are not all 0; `key` is kernel position * input planes + input plane, of
// its slice.
struct Block {
  std::uint32_t key;
  std::uint32_t word;  // by element type: four int8 in memory order, or the bits of one float32
};

// The surviving blocks of every output channel o: blocks[starts[o]] .. blocks[starts[o + 1]].
struct Survivors {
  Element element = Element::int8;  // of the words
  std::vector<Block> blocks;
  std::vector<std::size_t> starts;
  std::size_t keys = 0;    // how many there may be in a channel
  std::size_t planes = 0;  // of the input of a slice

  std::size_t channels() const { return starts.size() - 1; }
};

Survivors surviving_blocks(const WeightedLayer& layer);

// Blocks of a view in the order in which their activations lie in memory; those of float32 layers in the order in which the graph
// adds them up: input channels, then rows, then columns of the kernel.
class MemoryOrder {
 public:
  MemoryOrder(const View& view, const Survivors& survivors);

  std::uint32_t offset(std::size_t rank) const { return offsets_[rank]; }
  std::uint32_t key(std::size_t rank) const { return keys_[rank]; }

  // Adds one channel's blocks, as its lane of `lanes` words a rank.
  void add(const Survivors& survivors, std::size_t channel, std::size_t lane, std::size_t lanes);

  // Calls use(rank, words) for every rank that was added, in order, and forgets them.
  template <typename Use>
  void drain(std::size_t lanes, const Use& use) {
    for (std::size_t i = 0; i < present_.size(); ++i) {
      for (; present_[i] != 0; present_[i] &= present_[i] - 1) {
        const std::size_t rank = 64 * i + static_cast<std::size_t>(__builtin_ctzll(present_[i]));
        use(rank, words_.data() + rank * lanes);
        std::fill_n(words_.begin() + static_cast<std::ptrdiff_t>(rank * lanes), lanes, 0U);
      }
    }
  }

 private:
  std::vector<std::uint32_t> keys_;     // by rank
  std::vector<std::uint32_t> offsets_;  // by rank
  std::vector<std::uint32_t> ranks_;    // by key
  std::vector<std::uint64_t> present_;  // one bit a rank
  std::vector<std::uint32_t> words_;    // by rank, then lane
};

// Appends each channel's blocks as entries in the order of MemoryOrder, and where each channel's begin, with an end.
void append_entries(const View& view, const Survivors& survivors, std::vector<Entry>& entries, std::vector<std::int64_t>& starts);

// bias - zero_point * sum of weights, modulo 2^32: what a sum over raw uint8 activations starts from. Of a float32 layer the bits
// of its bias.
std::vector<std::int32_t> initial_sums(const WeightedLayer& layer);

inline constexpr int most_passes = 8;
inline constexpr int most_bands = 64;

// Of the copies of a band, for each thread: a small file may hold a kernel whose copies would be gigabytes. Offsets are 32 bits
// wide.
inline constexpr std::int64_t most_copied_bytes = std::int64_t{1} << 27;

// Positions of a kernel, each of which takes memory in every view: 256 x 256.
inline constexpr std::int64_t most_positions = std::int64_t{1} << 16;

// How a layer is computed. Its text form is what LayerReport::kernel shows and what saved choices hold.
struct Choice {
  ViewKind view = ViewKind::in_place;
  int vectors = 1;  // of one tile
  int grouped = 1;  // output channels that share their blocks; 1 takes each channel's own
  int passes =
      1;          // over the input planes, so that what one pass reads stays in the first-level cache; more than 1 only ungrouped
  int bands = 1;  // of rows, one after the other or on several threads; each has copies of its own
};
std::string text_of(const Choice& choice);
std::optional<Choice> choice_from(const std::string& text);

// Whether the choice can compute this layer with these kernels.
bool possible(const Choice& choice, const WeightedLayer& layer, const Kernels& kernels);

// The same of a choice whose view is possible and already made.
bool possible(const Choice& choice, const View& view, const WeightedLayer& layer, const Kernels& kernels);

struct Computation {
  std::unique_ptr<Step> step;
  std::int64_t copies_bytes = 0;  // of each thread
  std::int64_t weight_bytes = 0;
  double issued_multiply_adds = 0;
};

Computation compute(const WeightedLayer& layer, const Survivors& survivors, const Choice& choice, const Operands& operands,
                    int threads, const Kernels& kernels);

// The view of a slice, of a band's rows or of all.
View view_for(const Choice& choice, const WeightedLayer& layer);

// The best choice by rule of thumb, or by measuring the most promising ones on this CPU and the pool's threads.
Choice choose(const WeightedLayer& layer, const Survivors& survivors, bool measure, Pool& pool, const Kernels& kernels);

// Approximate multiply-adds of measuring a layer.
double work_of_choosing(const WeightedLayer& layer, const Survivors& survivors);

}  // namespace paretrim
