// Which blocks of four weights survive, and in which order a kernel meets them.
#include <algorithm>
#include <cstring>

#include "plan/convolution.h"

namespace paretrim {

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
        // Shifted together: bytes stored one by one and read back as a word would stall every time.
        std::uint32_t word = 0;
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t lane = first + i - plane * block;
          word |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(weight[i * positions + position])) << (8 * lane);
        }
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

}  // namespace paretrim
