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

std::size_t size_in(std::int64_t count) { return static_cast<std::size_t>(count); }

// Numbers that are 0 or -0. In 32 bits at a time, which compilers turn into vector instructions.
std::size_t zeros_in(const float* numbers, std::size_t size) {
  std::size_t zeros = 0;
  for (std::size_t start = 0; start < size;) {
    const std::size_t end = std::min(size, start + (std::size_t{1} << 16));
    std::uint32_t found = 0;
    for (; start < end; ++start) found += numbers[start] == 0.0F;
    zeros += found;
  }
  return zeros;
}

}  // namespace

NonzeroBlocks::NonzeroBlocks(const WeightedLayer& layer)
    : element_(layer.element),
      integers_(layer.weight),
      floats_(layer.float_weight),
      positions_(layer.geometry.kernel.vertical * layer.geometry.kernel.horizontal),
      reading_(reading_positions(layer.geometry)),
      planes_(size_in(slices_of(layer).in_planes)) {
  const Geometry& g = layer.geometry;
  depth_ = size_in((element_ == Element::float32 ? g.in.blocks() : g.in.channels) / layer.groups);
  outputs_ = size_in(layer.outputs() / layer.groups);
  row_size_ = depth_ * size_in(positions_);
  Room<Block> room;
  const bool all_read = reading_.size() == size_in(positions_);
  starts_.push_back(0);
  for (std::size_t channel = 0; channel < size_in(layer.outputs()); ++channel) {
    std::size_t count = 0;
    if (element_ == Element::float32 && all_read) {
      count = row_size_ - zeros_in(row(channel), row_size_);
    } else {
      const Range found = of(channel, room);
      count = size_in(found.last - found.first);
    }
    starts_.push_back(starts_.back() + count);
  }
}

NonzeroBlocks::Range NonzeroBlocks::of(std::size_t channel, Room<Block>& room) const {
  if (element_ == Element::int8) return integers_of(channel, room);
  room.resize(std::max(room.size(), depth_ * reading_.size() + 1));
  Block* to = room.data();
  const float* weight = row(channel);
  const std::size_t first = first_plane(channel);
  for (std::size_t plane = first; plane < first + depth_; ++plane, weight += positions_) {
    for (const std::int64_t position : reading_) {
      std::uint32_t word = 0;
      std::memcpy(&word, weight + position, sizeof word);
      // Always written, but only counted if nonzero: a branch would be unpredictable.
      *to = {static_cast<std::uint32_t>(size_in(position) * planes_ + plane), word};
      to += weight[position] != 0;
    }
  }
  return {room.data(), to};
}

NonzeroBlocks::Range NonzeroBlocks::integers_of(std::size_t channel, Room<Block>& room) const {
  const auto depth = static_cast<std::int64_t>(depth_), planes = static_cast<std::int64_t>(planes_);
  const std::int64_t first = static_cast<std::int64_t>(channel / outputs_) * depth;
  room.resize(std::max(room.size(), reading_.size() * (depth_ / block + 2) + 1));
  Block* to = room.data();
  const std::int8_t* weight = integers_ + channel * row_size_;
  for (std::int64_t plane = first / block; plane <= (first + depth - 1) / block; ++plane) {
    const std::int64_t begin = std::max<std::int64_t>(plane * block - first, 0);
    const std::int64_t end = std::min<std::int64_t>(plane * block + block - first, depth);
    const std::int64_t lane = 8 * (first + begin - plane * block);
    for (const std::int64_t position : reading_) {
      const std::uint32_t word = word_of(weight + begin * positions_ + position, positions_, end - begin) << lane;
      *to = {static_cast<std::uint32_t>(position * planes + plane % planes), word};
      to += word != 0;
    }
  }
  return {room.data(), to};
}

bool NonzeroBlocks::whole(std::size_t first, std::size_t last) const {
  const bool all_read = reading_.size() == size_in(positions_);
  return element_ == Element::float32 && all_read && first / outputs_ == (last - 1) / outputs_ &&
         starts_[last] - starts_[first] == (last - first) * row_size_;
}

double NonzeroBlocks::in_unions(std::size_t grouped) const {
  if (grouped == 1) return static_cast<double>(size());
  double total = 0;
  std::vector<std::size_t> seen(keys(), 0);  // by key: the last union that has it, counted from 1
  Room<Block> room;
  for (std::size_t first = 0; first < channels(); first += grouped) {
    const std::size_t last = std::min(first + grouped, channels());
    if (whole(first, last)) {
      total += static_cast<double>(row_size_);
      continue;
    }
    for (std::size_t channel = first; channel < last; ++channel) {
      for (const Block& one : of(channel, room)) {
        std::size_t& latest = seen[one.key];
        if (latest != first + 1) total += 1;
        latest = first + 1;
      }
    }
  }
  return total;
}

BlockOrder::BlockOrder(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels)
    : split_(nonzero.element() == Element::int8 && kernels.pairs_in_16_bits),
      keys_(nonzero.keys()),
      ranks_(nonzero.keys()),
      present_((nonzero.keys() + 63) / 64) {
  std::vector<std::uint32_t> by_key;
  const std::size_t planes = nonzero.planes(), positions = nonzero.keys() / planes;
  for (std::size_t key = 0; key < nonzero.keys(); ++key) {
    const auto position = static_cast<std::int64_t>(key / planes);
    by_key.push_back(static_cast<std::uint32_t>(view.offset(position, static_cast<std::int64_t>(key % planes))));
    keys_[key] = static_cast<std::uint32_t>(key);
  }
  const auto summed = [&](std::uint32_t key) { return key % planes * positions + key / planes; };
  const bool real = nonzero.element() == Element::float32;
  std::sort(keys_.begin(), keys_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return real ? summed(a) < summed(b) : by_key[a] < by_key[b]; });
  for (std::size_t rank = 0; rank < keys_.size(); ++rank) {
    ranks_[keys_[rank]] = static_cast<std::uint32_t>(rank);
    offsets_.push_back(by_key[keys_[rank]]);
  }
}

void BlockOrder::add(const NonzeroBlocks& nonzero, std::size_t channel, std::size_t lane, std::size_t lanes) {
  words_.resize(std::max(words_.size(), keys_.size() * lanes));
  for (const Block& one : nonzero.of(channel, blocks_)) {
    const std::size_t rank = ranks_[one.key];
    present_[rank / 64] |= std::uint64_t{1} << (rank % 64);
    words_[rank * lanes + lane] = one.word;
  }
}

void append_entries(const View& view, const NonzeroBlocks& nonzero, const Kernels& kernels, Room<Entry>& entries,
                    std::vector<std::int64_t>& starts) {
  BlockOrder order(view, nonzero, kernels);
  starts.push_back(static_cast<std::int64_t>(entries.size()));
  for (std::size_t o = 0; o < nonzero.channels(); ++o) {
    order.each(nonzero, o, 1, [&](std::size_t rank, const std::uint32_t* word) {
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
