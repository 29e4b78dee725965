// Finds the nonzero blocks of a layer and puts them in the order in which kernels process them.
#include <algorithm>
#include <cstring>

#include "plan/convolution.h"

namespace paretrim {
namespace {

// Packs up to four weights, `apart` elements from one another, into a word. Uses shifts, because storing bytes and loading a word
// would stall on store forwarding.
std::uint32_t word_of(const std::int8_t* weight, std::int64_t apart, std::int64_t count) {
  const auto byte = [&](std::int64_t i) {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(weight[i * apart])) << (8 * i);
  };
  if (count == block) return byte(0) | byte(1) | byte(2) | byte(3);  // no loop, because this runs for every weight of a network
  std::uint32_t word = 0;
  for (std::int64_t i = 0; i < count; ++i) word |= byte(i);
  return word;
}

}  // namespace

Slices slices_of(const WeightedLayer& layer) {
  constexpr std::int64_t max_bytes = 8 * 1024;  // input per slice; three copies of it still fit in L1
  constexpr std::int64_t min_slices = 8;        // enough to keep several threads busy
  const Geometry& g = layer.geometry;
  const Slices whole{1, g.in.blocks(), g.out.blocks()};
  if (layer.groups == 1 || g.in.pixels() == 1 || g.out.pixels() == 1) return whole;
  const std::int64_t depth = g.in.channels / layer.groups;
  const std::int64_t outputs = g.out.channels / layer.groups;
  std::int64_t unit = 1;  // smallest number of groups that fill whole planes
  while (unit * depth % block != 0 || unit * outputs % block != 0) unit *= 2;
  if (layer.groups % unit != 0) return whole;
  const std::int64_t units = layer.groups / unit;
  const std::int64_t bytes = unit * depth / block * g.in.pitch();
  std::int64_t joined = 1;
  for (std::int64_t many = 2; many <= units / min_slices && many * bytes <= max_bytes; ++many) {
    if (units % many == 0) joined = many;
  }
  return {units / joined, joined * unit * depth / block, joined * unit * outputs / block};
}

namespace {

// NonzeroBlocks of this layer without any blocks yet.
NonzeroBlocks no_blocks(const WeightedLayer& layer) {
  const Geometry& g = layer.geometry;
  NonzeroBlocks nonzero;
  nonzero.element = layer.element;
  nonzero.planes = static_cast<std::size_t>(slices_of(layer).in_planes);
  nonzero.keys = static_cast<std::size_t>(g.kernel.vertical * g.kernel.horizontal) * nonzero.planes;
  nonzero.starts.push_back(0);
  return nonzero;
}

NonzeroBlocks nonzero_floats(const WeightedLayer& layer) {
  const Geometry& g = layer.geometry;
  const std::int64_t positions = g.kernel.vertical * g.kernel.horizontal;
  const std::int64_t depth = g.in.blocks() / layer.groups;
  const std::int64_t outputs = layer.outputs() / layer.groups;  // of one group
  NonzeroBlocks nonzero = no_blocks(layer);
  const auto planes = static_cast<std::int64_t>(nonzero.planes);
  const std::vector<std::int64_t> reading = reading_positions(g);
  nonzero.blocks.reserve(static_cast<std::size_t>(layer.outputs() * depth) * reading.size());
  const float* weight = layer.float_weight;
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    const std::int64_t first = o / outputs * depth;
    for (std::int64_t plane = first; plane < first + depth; ++plane) {
      for (const std::int64_t position : reading) {
        if (weight[position] == 0) continue;
        std::uint32_t word = 0;
        std::memcpy(&word, weight + position, sizeof word);
        nonzero.blocks.push_back({static_cast<std::uint32_t>(position * planes + plane % planes), word});
      }
      weight += positions;
    }
    nonzero.starts.push_back(nonzero.blocks.size());
  }
  return nonzero;
}

}  // namespace

NonzeroBlocks nonzero_blocks(const WeightedLayer& layer) {
  if (layer.element == Element::float32) return nonzero_floats(layer);
  const Geometry& g = layer.geometry;
  const std::int64_t positions = g.kernel.vertical * g.kernel.horizontal;
  const std::int64_t depth = g.in.channels / layer.groups;
  const std::int64_t outputs = g.out.channels / layer.groups;  // of one group
  NonzeroBlocks nonzero = no_blocks(layer);
  const auto planes = static_cast<std::int64_t>(nonzero.planes);
  const std::vector<std::int64_t> reading = reading_positions(g);
  const auto most = reading.size() * static_cast<std::size_t>((depth + block - 1) / block + 1);  // per channel
  nonzero.blocks.reserve(static_cast<std::size_t>(g.out.channels) * most);
  for (std::int64_t o = 0; o < g.out.channels; ++o) {
    const std::int64_t first = o / outputs * depth;
    const std::int8_t* weight = layer.weight + o * depth * positions;
    std::size_t kept = nonzero.blocks.size();
    nonzero.blocks.resize(kept + most);
    for (std::int64_t plane = first / block; plane <= (first + depth - 1) / block; ++plane) {
      const std::int64_t begin = std::max<std::int64_t>(plane * block - first, 0);
      const std::int64_t end = std::min<std::int64_t>(plane * block + block - first, depth);
      const std::int64_t lane = 8 * (first + begin - plane * block);
      for (const std::int64_t position : reading) {
        const std::uint32_t word = word_of(weight + begin * positions + position, positions, end - begin) << lane;
        // Always written, but only counted if nonzero: a branch would be unpredictable.
        nonzero.blocks[kept] = {static_cast<std::uint32_t>(position * planes + plane % planes), word};
        kept += word != 0;
      }
    }
    nonzero.blocks.resize(kept);
    nonzero.starts.push_back(nonzero.blocks.size());
  }
  return nonzero;
}

BlockOrder::BlockOrder(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels)
    : split_(nonzero.element == Element::int8 && kernels.pairs_in_16_bits),
      keys_(nonzero.keys),
      ranks_(nonzero.keys),
      present_((nonzero.keys + 63) / 64) {
  std::vector<std::uint32_t> by_key;
  for (std::size_t key = 0; key < nonzero.keys; ++key) {
    const auto position = static_cast<std::int64_t>(key / nonzero.planes);
    by_key.push_back(static_cast<std::uint32_t>(view.offset(position, static_cast<std::int64_t>(key % nonzero.planes))));
    keys_[key] = static_cast<std::uint32_t>(key);
  }
  const auto summed = [&](std::uint32_t key) {
    const std::size_t positions = nonzero.keys / nonzero.planes;
    return key % nonzero.planes * positions + key / nonzero.planes;
  };
  const bool real = nonzero.element == Element::float32;
  std::sort(keys_.begin(), keys_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return real ? summed(a) < summed(b) : by_key[a] < by_key[b]; });
  for (std::size_t rank = 0; rank < keys_.size(); ++rank) {
    ranks_[keys_[rank]] = static_cast<std::uint32_t>(rank);
    offsets_.push_back(by_key[keys_[rank]]);
  }
}

void BlockOrder::add(const NonzeroBlocks& nonzero, std::size_t channel, std::size_t lane, std::size_t lanes) {
  words_.resize(keys_.size() * lanes);
  for (std::size_t i = nonzero.starts[channel]; i < nonzero.starts[channel + 1]; ++i) {
    const std::size_t rank = ranks_[nonzero.blocks[i].key];
    present_[rank / 64] |= std::uint64_t{1} << (rank % 64);
    words_[rank * lanes + lane] = nonzero.blocks[i].word;
  }
}

void append_entries(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels, Room<Entry>& entries,
                    std::vector<std::int64_t>& starts) {
  BlockOrder order(view, nonzero, kernels);
  starts.push_back(static_cast<std::int64_t>(entries.size()));
  for (std::size_t o = 0; o < nonzero.channels(); ++o) {
    order.add(nonzero, o, 0, 1);
    order.drain(1, [&](std::size_t rank, const std::uint32_t* word) {
      entries.push_back(static_cast<Entry>(order.offset(rank)) << 32U | *word);
    });
    starts.push_back(static_cast<std::int64_t>(entries.size()));
  }
}

std::vector<std::int32_t> initial_sums(const WeightedLayer& layer) {
  const Geometry& g = layer.geometry;
  if (layer.element == Element::float32) {
    std::vector<std::int32_t> bits(static_cast<std::size_t>(layer.outputs()), 0);
    if (layer.float_bias != nullptr) std::memcpy(bits.data(), layer.float_bias, bits.size() * sizeof(float));
    return bits;
  }
  const std::int64_t positions = g.kernel.vertical * g.kernel.horizontal;
  const std::int64_t each = g.in.channels / layer.groups * positions;
  const std::vector<std::int64_t> unread = padding_positions(g);
  std::vector<std::int32_t> initial(static_cast<std::size_t>(g.out.channels));
  for (std::int64_t o = 0; o < g.out.channels; ++o) {
    const std::int8_t* weight = layer.weight + o * each;
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < each && layer.input_zero_point != 0; ++i) sum += weight[i];
    for (const std::int64_t position : unread) {
      for (std::int64_t i = position; i < each && layer.input_zero_point != 0; i += positions) sum -= weight[i];
    }
    const auto start = static_cast<std::uint32_t>(layer.bias[o]) - static_cast<std::uint32_t>(layer.input_zero_point * sum);
    initial[static_cast<std::size_t>(o)] = static_cast<std::int32_t>(start);
  }
  return initial;
}

}  // namespace paretrim
