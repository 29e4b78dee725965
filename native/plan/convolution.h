// Convolutions and linear layers: packed weights, the steps that compute them, and the choice of a kernel.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/pairs.h"
#include "plan/view.h"
#include "threads/pool.h"

namespace paretrim {

// A convolution or linear layer as in the graph. A linear layer is a 1x1 convolution on one pixel.
struct WeightedLayer {
  Geometry geometry;
  std::int64_t groups = 1;
  Element element = Element::int8;
  const std::int8_t* weight = nullptr;  // [outputs][inputs / groups][kernel]
  const std::int32_t* bias = nullptr;
  const float* float_weight = nullptr;                  // for a float32 layer, instead of the two above
  const float* float_bias = nullptr;                    // null if there is none
  float low = -std::numeric_limits<float>::infinity();  // clamp of a float32 result
  float high = std::numeric_limits<float>::infinity();
  std::vector<float> multipliers;  // by output: input scale * weight scale (/ output scale if the result is uint8)
  std::uint8_t input_zero_point = 0;
  bool float_result = false;  // logits
  Requantization to;
  std::optional<Addition> addition;  // set if an add is fused; in float32 its values are unused
  bool addition_swapped = false;     // whether this layer is the second operand of the add

  std::int64_t channels_per_plane() const { return element == Element::int8 ? block : 1; }
  std::int64_t outputs() const { return geometry.out.channels / (element == Element::int8 ? 1 : block); }
};

// Splits a grouped convolution into `count` consecutive slices without common channels, of this many planes each. Each slice is
// computed like a separate convolution, so that the copies of its few planes are still in the cache when they are read. `count`
// is 1 if groups share planes.
struct Slices {
  std::int64_t count = 1;
  std::int64_t in_planes = 0;
  std::int64_t out_planes = 0;
};
Slices slices_of(const WeightedLayer& layer);

// The weights of one output channel for one kernel position and input plane, not all zero. `key` is kernel position * input
// planes of the slice + input plane.
struct Block {
  std::uint32_t key;
  std::uint32_t word;  // four int8 in memory order, or the bits of one float32
};

// The nonzero blocks of every output channel o: blocks[starts[o]] up to blocks[starts[o + 1]].
struct NonzeroBlocks {
  Element element = Element::int8;  // of the words
  Room<Block> blocks;
  std::vector<std::size_t> starts;
  std::size_t keys = 0;    // number of possible blocks per channel
  std::size_t planes = 0;  // input planes per slice

  std::size_t channels() const { return starts.size() - 1; }
};

NonzeroBlocks nonzero_blocks(const WeightedLayer& layer);

// Puts blocks in the order in which a kernel processes them. Integer layers: by the address of their activations in the view.
// float32 layers: in the order of summation that the graph defines, by input channel, then kernel row, then kernel column.
class BlockOrder {
 public:
  BlockOrder(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels);

  std::uint32_t offset(std::size_t rank) const { return offsets_[rank]; }
  std::uint32_t key(std::size_t rank) const { return keys_[rank]; }

  // Adds the blocks of one channel, as lane `lane` of the `lanes` words at each rank.
  void add(const NonzeroBlocks& nonzero, std::size_t channel, std::size_t lane, std::size_t lanes);

  // Calls use(rank, words) for each added rank, in order, and removes all ranks. If the kernels add pairs in 16 bits, a rank
  // whose words do not allow that is used twice, with words that together give its sums.
  template <typename Use>
  void drain(std::size_t lanes, const Use& use) {
    for (std::size_t i = 0; i < present_.size(); ++i) {
      for (; present_[i] != 0; present_[i] &= present_[i] - 1) {
        const std::size_t rank = 64 * i + static_cast<std::size_t>(__builtin_ctzll(present_[i]));
        std::uint32_t* words = words_.data() + rank * lanes;
        const bool again = split_ && split(words, lanes);
        use(rank, words);
        if (again) use(rank, rest_.data());
        std::fill_n(words_.begin() + static_cast<std::ptrdiff_t>(rank * lanes), lanes, 0U);
      }
    }
  }

 private:
  // Splits these words; whether anything is left for a second use, in rest_.
  bool split(std::uint32_t* words, std::size_t lanes) {
    std::uint32_t any = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane) any |= rest_[lane] = split_pairs(words[lane]);
    return any != 0;
  }

  const bool split_;
  std::array<std::uint32_t, max_grouped> rest_{};
  std::vector<std::uint32_t> keys_;     // by rank
  std::vector<std::uint32_t> offsets_;  // by rank
  std::vector<std::uint32_t> ranks_;    // by key
  std::vector<std::uint64_t> present_;  // one bit per rank
  std::vector<std::uint32_t> words_;    // by rank, then lane
};

// Appends the blocks of each channel as entries, in the order of BlockOrder, and the start of each channel in `entries`, followed
// by the end of the last one.
void append_entries(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels, Room<Entry>& entries,
                    std::vector<std::int64_t>& starts);

// Initial values of the accumulators. Integer layers: bias - zero_point * sum of weights, modulo 2^32, because the kernels
// multiply raw uint8 activations. float32 layers: the bits of the bias.
std::vector<std::int32_t> initial_sums(const WeightedLayer& layer);

inline constexpr int max_passes = 8;
inline constexpr int max_bands = 64;

// Maximum size of the copies of a band, per thread, because a small file may hold a kernel whose copies would take gigabytes.
// Also keeps offsets within 32 bits.
inline constexpr std::int64_t max_copied_bytes = std::int64_t{1} << 27;

// Maximum number of kernel positions (256 x 256), because each one takes memory in every view.
inline constexpr std::int64_t max_positions = std::int64_t{1} << 16;

// The kernel choice of a layer. LayerReport::kernel and saved choices hold its text form.
struct Choice {
  ViewKind view = ViewKind::in_place;
  int vectors = 1;  // per tile
  int grouped = 1;  // output channels that execute the union of their blocks; 1: each channel executes its own
  int passes = 1;   // over the input planes, so that the planes of one pass stay in L1; more than 1 only if grouped is 1
  int bands = 1;    // of rows, in sequence or on several threads; each has its own copies
};
std::string text_of(const Choice& choice);
std::optional<Choice> choice_from(const std::string& text);

// Whether these kernels can compute this layer with the choice.
bool possible(const Choice& choice, const WeightedLayer& layer, const Kernels& kernels);

// The same, given the choice's view; its kind must be possible for the layer.
bool possible(const Choice& choice, const View& view, const WeightedLayer& layer, const Kernels& kernels);

struct Computation {
  std::unique_ptr<Step> step;
  std::int64_t copies_bytes = 0;  // per thread
  std::int64_t weight_bytes = 0;
  double issued_multiply_adds = 0;
};

Computation compute(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const Choice& choice, const Operands& operands,
                    int threads, const Kernels& kernels);

// The view of one slice: for the rows of one band, or for all rows if it is in place.
View view_for(const Choice& choice, const WeightedLayer& layer);

// The best choice by the cost model or, if `measure`, by timing the most promising ones on the pool's threads.
Choice choose(const WeightedLayer& layer, const NonzeroBlocks& nonzero, bool measure, Pool& pool, const Kernels& kernels);

// Approximate number of multiply-adds that measuring a layer takes.
double work_of_measuring(const WeightedLayer& layer, const NonzeroBlocks& nonzero);

}  // namespace paretrim
