// Convolutions and linear layers: packed weights, the steps that compute them, and the choice of a kernel.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
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

// The nonzero blocks of every output channel of a layer. They are formed channel by channel from the layer's weights, which must
// live as long: those of a whole layer may take a gigabyte.
class NonzeroBlocks {
 public:
  explicit NonzeroBlocks(const WeightedLayer& layer);

  std::size_t channels() const { return starts_.size() - 1; }
  std::size_t keys() const { return static_cast<std::size_t>(positions_) * planes_; }  // number of possible blocks per channel
  std::size_t planes() const { return planes_; }                                       // input planes per slice
  Element element() const { return element_; }                                         // of the words
  std::size_t size() const { return starts_.back(); }
  std::size_t before(std::size_t channel) const { return starts_[channel]; }  // number of blocks of the channels before

  // The blocks of a channel, in `room`, until the next call with the same one.
  struct Range {
    const Block* first;
    const Block* last;
    const Block* begin() const { return first; }
    const Block* end() const { return last; }
  };
  Range of(std::size_t channel, Room<Block>& room) const;

  // Whether channels of one group from `first` to `last` have all float32 blocks that their group can have. Then the rows of
  // their weights are their words, in the order of summation.
  bool whole(std::size_t first, std::size_t last) const;
  const float* row(std::size_t channel) const { return floats_ + channel * row_size_; }
  std::size_t row_size() const { return row_size_; }
  // The rank of the first block of a row in BlockOrder.
  std::size_t first_rank(std::size_t channel) const { return first_plane(channel) * static_cast<std::size_t>(positions_); }
  std::size_t first_plane(std::size_t channel) const { return channel / outputs_ * depth_ % planes_; }  // of float32 blocks

  // Total blocks if `grouped` adjacent channels execute the union of their blocks.
  double in_unions(std::size_t grouped) const;

 private:
  Range integers_of(std::size_t channel, Room<Block>& room) const;

  Element element_;
  const std::int8_t* integers_;
  const float* floats_;
  std::int64_t positions_;             // of the kernel
  std::vector<std::int64_t> reading_;  // the positions that read the input
  std::size_t planes_;
  std::size_t depth_;     // input channels per group
  std::size_t outputs_;   // output channels per group
  std::size_t row_size_;  // weights per output channel
  std::vector<std::size_t> starts_;
};

// Puts blocks in the order in which a kernel processes them. Integer layers: by the address of their activations in the view.
// float32 layers: in the order of summation that the graph defines, by input channel, then kernel row, then kernel column.
class BlockOrder {
 public:
  BlockOrder(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels);

  std::uint32_t offset(std::size_t rank) const { return offsets_[rank]; }
  std::uint32_t key(std::size_t rank) const { return keys_[rank]; }

  // Calls use(rank, words) for each rank that one of the channels from `first` on has, in order, with a word for each of `lanes`
  // channels; 0 where a channel has no such block. If the kernels add pairs in 16 bits, a rank whose words do not allow that is
  // used twice, with words that together give its sums.
  template <typename Use>
  void each(const NonzeroBlocks& nonzero, std::size_t first, std::size_t lanes, const Use& use) {
    const std::size_t last = std::min(first + lanes, nonzero.channels());
    if (first < last && nonzero.whole(first, last)) return each_of_rows(nonzero, first, last, lanes, use);
    for (std::size_t channel = first; channel < last; ++channel) add(nonzero, channel, channel - first, lanes);
    drain(lanes, use);
  }

 private:
  // Adds the blocks of one channel, as lane `lane` of the `lanes` words at each rank.
  void add(const NonzeroBlocks& nonzero, std::size_t channel, std::size_t lane, std::size_t lanes);

  // Uses and removes all ranks.
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

  // The same for channels without zeros: transposes their rows, a cache line of each at a time.
  template <typename Use>
  void each_of_rows(const NonzeroBlocks& nonzero, std::size_t first, std::size_t last, std::size_t lanes, const Use& use) {
    constexpr std::size_t at_once = 16;
    const std::size_t size = nonzero.row_size();
    const std::size_t base = nonzero.first_rank(first);
    words_.resize(std::max(words_.size(), at_once * lanes));
    for (std::size_t start = 0; start < size; start += at_once) {
      const std::size_t count = std::min(at_once, size - start);
      for (std::size_t channel = first; channel < last; ++channel) {
        std::array<std::uint32_t, at_once> words;
        std::memcpy(words.data(), nonzero.row(channel) + start, count * sizeof(float));
        for (std::size_t i = 0; i < count; ++i) words_[i * lanes + channel - first] = words[i];
      }
      for (std::size_t i = 0; i < count; ++i) use(base + start + i, words_.data() + i * lanes);
    }
    std::fill_n(words_.begin(), at_once * lanes, 0U);
  }

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
  Room<Block> blocks_;                  // of the channel that is added
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
