#include "trim/weights.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "trim/logarithm.h"
#include "trim/range_coder.h"
#include "trim/weight_facts.h"

namespace paretrim::trim {
namespace {

// Very long rows share counters, which bounds the memory of a reader.
constexpr std::size_t channel_mask = (1 << 16) - 1, column_mask = (1 << 18) - 1;
constexpr std::uint32_t seen_by_new_layer = 60;  // maximum confidence of shared counters at the start of a layer, in bits seen

int ternary(int value) { return value > 0 ? 2 : value < 0 ? 1 : 0; }
int few(int count) { return count > 2 ? 2 : count; }

int position_class(std::int64_t position, std::int64_t positions) {
  return static_cast<int>(positions <= 9 ? position : position * 9 / positions);
}

// A model of some bits must save more than this, in thousandths of the piece. Bits without a model are read faster.
constexpr std::int64_t unmodelled = 3;

// Saving of a model of `size` symbols in each of `contexts` over fixed-length symbols, minus the cost of learning, in units of
// 2^-16 bits.
std::int64_t saved_by_model(const std::int64_t* counts, std::size_t size, std::size_t contexts) {
  const auto bits = [](std::int64_t count, std::int64_t number) { return count * logarithm(static_cast<std::uint64_t>(number)); };
  std::int64_t saved = 0;
  for (; contexts > 0; --contexts, counts += size) {
    const std::int64_t all = std::accumulate(counts, counts + size, std::int64_t{0});
    if (all == 0) continue;
    saved += bits(all, static_cast<std::int64_t>(size)) - bits(static_cast<std::int64_t>(size) - 1, all + 1) / 2;
    for (std::size_t i = 0; i < size; ++i) {
      if (counts[i] > 0) saved += bits(counts[i], counts[i]) - bits(counts[i], all);
    }
  }
  return saved;
}

}  // namespace

void WeightModel::Mean::add(std::uint32_t magnitude) {
  seen = std::min<std::uint32_t>(seen + 1, 255);
  value = static_cast<std::uint32_t>(static_cast<std::int32_t>(value) +
                                     (static_cast<std::int32_t>(magnitude << 8) - static_cast<std::int32_t>(value)) /
                                         static_cast<std::int32_t>(seen));
}

int WeightModel::class_of_prediction(const Neighbours& around) {
  const int prediction = 2 * around.left + 2 * around.above - around.corner;
  const int size = std::min(doublings<1>(static_cast<std::uint32_t>(std::abs(prediction)) + 1) - 1, 9);
  return prediction < 0 ? -size : size;
}

// A weighted sum of the neighbours' magnitudes.
std::uint32_t WeightModel::energy_of(const Neighbours& around) {
  return static_cast<std::uint32_t>(2 * std::abs(around.left) + 2 * std::abs(around.above) + std::abs(around.before) +
                                    std::abs(around.row_before));
}

template <bool rich, class Coder>
int WeightModel::code_magnitude(Coder& coder, int magnitude, const std::array<Counter*, 3>& tables, Counter* exact, int raw) {
  std::uint32_t node = 1;
  for (int k = 6; k >= exact_bits; --k) {
    const int bit = magnitude >> k & 1;
    if constexpr (rich) {
      node = node << 1 | code_mixed<Coder, 3>(coder, bit, value_mixers_[node],
                                              {tables[0] + node, tables[1] + node, tables[2] + node}, {steady, steady, steady});
    } else {
      node = node << 1 | code_plain(coder, bit, tables[0][node], steady);
    }
  }
  for (int k = exact_bits - 1; k >= raw; --k) node = node << 1 | code_plain(coder, magnitude >> k & 1, exact[node], steady);
  return static_cast<int>(node) - (nodes >> raw);
}

// Codes whether a value is negative, in the context of its neighbours.
template <bool rich, class Coder>
bool WeightModel::code_sign(Coder& coder, bool negative, const Neighbours& around, int prediction, int position,
                            Counter& channel) {
  Counter& near = sign_around_[sign_context(around, prediction)];
  if constexpr (rich) {
    return code_mixed<Coder, 4>(coder, negative, sign_mixer_,
                                {&near, &sign_position_[position], &channel, &sign_prediction_[9 + prediction]},
                                {steady, steady, mobile, steady});
  } else {
    return code_plain(coder, negative, near, steady);
  }
}

// Codes a nonzero value: its sign unless signs are raw, its magnitude above the smallest one, then the raw bits.
template <bool rich, class Coder>
int WeightModel::code_value(Coder& coder, int value, const Neighbours& around, int position, int smallest, Counter& channel_sign,
                            Mean& mean, const Layer& layer) {
  const int prediction = layer.flat ? 0 : class_of_prediction(around);
  bool negative = value < 0;
  if (!layer.raw_signs) negative = code_sign<rich>(coder, negative, around, prediction, position, channel_sign);
  const int agreement = layer.raw_signs ? 9 : 9 + (negative ? -prediction : prediction);
  const int side = layer.sided && !layer.raw_signs && negative ? 1 : 0;
  const std::array<Counter*, 3> tables = {&by_mean_[(doublings<8>(mean.value) * 2 + side) * nodes],
                                          &by_energy_[(doublings<2>(energy_of(around)) * 2 + side) * nodes],
                                          &by_prediction_[(agreement * 2 + side) * nodes]};
  int excess = std::abs(value) - smallest;
  const int raw_bits = layer.raw_bits + (layer.raw_signs ? 1 : 0);
  const int modelled = code_magnitude<rich>(coder, excess, tables, &by_node_[side * nodes], layer.raw_bits);
  if (raw_bits > 0) {
    const int sign = layer.raw_signs && negative ? 1 << layer.raw_bits : 0, low = (1 << layer.raw_bits) - 1;
    const int raw = static_cast<int>(coder.code_raw(static_cast<std::uint32_t>(sign | (excess & low)), raw_bits));
    excess = modelled << layer.raw_bits | (raw & low);
    if (layer.raw_signs) negative = raw > low;
  } else {
    excess = modelled;
  }
  mean.add(static_cast<std::uint32_t>(excess + 1));
  return negative ? -(smallest + excess) : smallest + excess;
}

// Codes a nonzero value as an index into the table.
template <class Coder>
int WeightModel::code_listed(Coder& coder, int value, const Neighbours& around, Mean& mean, Layer& layer) {
  const ValueContext classes = {doublings<2>(mean.value), doublings<2>(energy_of(around)),
                                9 + (layer.flat ? 0 : class_of_prediction(around))};
  value = layer.table->code(coder, value, classes);
  mean.add(static_cast<std::uint32_t>(std::abs(value)));
  return value;
}

template <typename Value>
WeightModel::Neighbours WeightModel::neighbours_of(const Weights<Value>& weights, const std::int8_t* weight, std::int64_t x,
                                                   std::int64_t y, std::int64_t channel, std::int64_t output) {
  const std::int64_t area = weights.height * weights.width;
  Neighbours around;
  if (x) around.left = weight[-1];
  if (y) around.above = weight[-weights.width];
  if (x && y) around.corner = weight[-weights.width - 1];
  if (channel) around.before = weight[-area];
  if (output) around.row_before = weight[-weights.channels * area];
  return around;
}

int WeightModel::sign_context(const Neighbours& around, int prediction) {
  return (9 + prediction) * 27 + ternary(around.left) * 9 + ternary(around.above) * 3 + ternary(around.before);
}

// Codes whether a block has any nonzero weight.
template <bool rich, class Coder, typename Value>
bool WeightModel::code_block_flag(Coder& coder, const Weights<Value>& weights, const Place& at, Row<Value>& row, Layer& layer) {
  const std::int64_t area = weights.height * weights.width;
  const std::uint8_t* const counts = layer.counts.data() + at.block * area + at.position;
  bool any = false;
  if constexpr (!Coder::decodes) {
    const Value* const values = row.values + at.block * block * area + at.position;
    for (int i = 0; i < at.width; ++i) any = any || values[i * area] != 0;
  }
  const int around = ((few(at.block ? counts[-area] : 0) * 3 + few(*counts)) * 3 + few(at.x ? counts[-1] : 0)) * 3 +
                     few(at.y ? counts[-weights.width] : 0);
  Counter& column = layer.block_column[static_cast<std::size_t>(at.block * area + at.position) & column_mask];
  if (row.output == 0) column = layer.any_block.relaxed(3);
  Counter& near = block_around_[static_cast<std::size_t>(at.place * 81 + around)];
  if constexpr (rich) {
    return code_mixed<Coder, 4>(coder, any, block_mixers_[static_cast<std::size_t>(at.place)],
                                {&near, &column, &row.any_block, &layer.any_block}, {steady, mobile, mobile, steady});
  } else {
    return code_plain(coder, any, near, steady);
  }
}

// Codes whether a weight is nonzero. `index` is its place in the block, `seen` the number of nonzero weights before it there.
template <bool rich, class Coder, typename Value>
bool WeightModel::code_weight_flag(Coder& coder, bool any, const Neighbours& around, const Place& at, int index, int seen,
                                   Row<Value>& row, Layer& layer) {
  const int mixer = index * block + seen;
  const int zeros = (around.left != 0) * 8 + (around.above != 0) * 4 + (around.before != 0) * 2 + (around.row_before != 0);
  Counter& near = weight_around_[static_cast<std::size_t>((mixer * 16 + zeros) * positions + at.place)];
  if constexpr (rich) {
    Counter& channel = layer.channel[static_cast<std::size_t>(at.block * block + index) & channel_mask];
    return code_mixed<Coder, 4>(coder, any, weight_mixers_[static_cast<std::size_t>(mixer)],
                                {&near, &channel, &row.any_weight[static_cast<std::size_t>(seen)], &layer.any_weight},
                                {steady, mobile, mobile, steady});
  } else {
    return code_plain(coder, any, near, steady);
  }
}

// Codes the weights of a block. Returns the number of nonzero weights.
template <bool rich, class Coder, typename Value>
int WeightModel::code_block(Coder& coder, const Weights<Value>& weights, const Place& at, Row<Value>& row, Layer& layer) {
  const std::int64_t area = weights.height * weights.width;
  int seen = 0;
  for (int i = 0; i < at.width; ++i) {
    const std::int64_t channel = at.block * block + i;
    Value* const weight = row.values + channel * area + at.position;
    const Neighbours around = neighbours_of(weights, weight, at.x, at.y, channel, row.output);
    const bool sure = layer.blocks && i == at.width - 1 && seen == 0;
    if (!sure && !code_weight_flag<rich>(coder, *weight != 0, around, at, i, seen, row, layer)) continue;
    Counter& sign = layer.channel_sign[static_cast<std::size_t>(channel) & channel_mask];
    const int value = layer.table ? code_listed(coder, *weight, around, row.mean, layer)
                                  : code_value<rich>(coder, *weight, around, at.place, row.smallest, sign, row.mean, layer);
    if constexpr (Coder::decodes) *weight = static_cast<std::int8_t>(value);
    ++seen;
  }
  return seen;
}

template <bool rich, class Coder, typename Value>
void WeightModel::code_output(Coder& coder, const Weights<Value>& weights, std::int64_t output, Layer& layer) {
  const std::int64_t area = weights.height * weights.width;
  Row<Value> row;
  row.values = weights.values + output * weights.channels * area;
  row.output = output;
  row.smallest = weights.scales ? smallest_magnitude(layer.floor, weights.scales[output]) : 1;
  row.any_block = layer.any_block.relaxed(6);
  row.any_weight.fill(layer.any_weight.relaxed(6));
  row.mean = {layer.mean.value, 8};
  Place at;
  for (std::int64_t first = 0; first < weights.channels; first += block, ++at.block) {
    at.width = static_cast<int>(std::min<std::int64_t>(block, weights.channels - first));
    if (output == 0) std::fill_n(&layer.channel[first & channel_mask], at.width, layer.any_weight.relaxed(3));
    at.position = 0;
    for (at.y = 0; at.y < weights.height; ++at.y) {
      for (at.x = 0; at.x < weights.width; ++at.x, ++at.position) {
        at.place = position_class(at.position, area);
        const bool any = !layer.blocks || code_block_flag<rich>(coder, weights, at, row, layer);
        const int seen = any ? code_block<rich>(coder, weights, at, row, layer) : 0;
        if (layer.allowance != nullptr) layer.allowance->take(static_cast<std::uint64_t>(seen));
        layer.counts[at.block * area + at.position] = static_cast<std::uint8_t>(seen);
      }
    }
  }
  const Mean& mean = row.mean;
  if (mean.seen > 8) layer.mean.value = layer.mean.seen++ ? (4 * layer.mean.value + mean.value) / 5 : mean.value;
}

// Chooses the bits of values that are coded without a model, because a model would save too little of the piece.
template <typename Value>
void WeightModel::choose_raw(const Weights<Value>& weights, Layer& layer) {
  const std::int64_t area = weights.height * weights.width, row = weights.channels * area;
  std::array<std::int64_t, nodes> excesses = {};
  std::vector<std::int64_t> near(2 * 19 * 27), channel(2 * static_cast<std::size_t>(weights.channels));
  std::int64_t values = 0;
  for (std::int64_t output = 0; output < weights.outputs; ++output) {
    const int smallest = weights.scales ? smallest_magnitude(layer.floor, weights.scales[output]) : 1;
    const Value* weight = weights.values + output * row;
    for (std::int64_t c = 0; c < weights.channels; ++c) {
      for (std::int64_t position = 0; position < area; ++position, ++weight) {
        if (*weight == 0) continue;
        const Neighbours around = neighbours_of(weights, weight, position % weights.width, position / weights.width, c, output);
        const int negative = *weight < 0;
        ++near[2 * sign_context(around, layer.flat ? 0 : class_of_prediction(around)) + negative];
        ++channel[2 * static_cast<std::size_t>(c) + negative];
        ++excesses[std::abs(*weight) - smallest];
        ++values;
      }
    }
  }
  const std::int64_t flags = saved_by_model(std::vector<std::int64_t>{values, weights.outputs * row - values}.data(), 2, 1);
  const std::int64_t whole = ((weights.outputs * row + 8 * values) << 16) - flags - saved_by_model(excesses.data(), nodes, 1);
  const std::int64_t little = whole * unmodelled / 1000;
  for (int bits = exact_bits; bits > 0 && layer.raw_bits == 0; --bits) {
    if (saved_by_model(excesses.data(), 1 << bits, nodes >> bits) <= little) layer.raw_bits = bits;
  }
  layer.raw_signs = !layer.sided && saved_by_model(near.data(), 2, 19 * 27) <= little &&
                    saved_by_model(channel.data(), 2, static_cast<std::size_t>(weights.channels)) <= little;
}

// Codes the options of a piece, before its weights.
template <class Coder, typename Value>
void WeightModel::code_header(Coder& coder, const Weights<Value>& weights, Layer& layer) {
  std::vector<std::int8_t> listed;
  std::uint32_t floor = 0;
  if constexpr (!Coder::decodes) {
    if (tables_) listed = listed_values(weights);
    layer.blocks = worth_blocks(weights);
  }
  if (tables_ && code_raw(coder, !listed.empty(), 1) != 0) {
    layer.blocks = code_raw(coder, layer.blocks, 1) != 0;
    layer.table.emplace(listed);
    layer.table->code_values(coder);
    return;
  }
  if constexpr (!Coder::decodes) {
    layer.sided = worth_sides(weights);
    layer.floor = floor_of(weights);
    std::memcpy(&floor, &layer.floor, sizeof floor);
    choose_raw(weights, layer);
  }
  layer.blocks = code_raw(coder, layer.blocks, 1) != 0;
  layer.sided = code_raw(coder, layer.sided, 1) != 0;
  floor = code_raw(coder, floor >> 16, 16) << 16;
  std::memcpy(&layer.floor, &floor, sizeof floor);
  layer.raw_bits = static_cast<int>(code_raw(coder, static_cast<std::uint32_t>(layer.raw_bits), 2));
  layer.raw_signs = code_raw(coder, layer.raw_signs, 1) != 0;
}

template <class Coder>
void WeightModel::code(Coder& coder, const Weights<std::conditional_t<Coder::decodes, std::int8_t, const std::int8_t>>& weights,
                       const Poll& poll, Allowance* allowance) {
  for (auto* counters : {&block_around_, &weight_around_, &by_node_, &by_prediction_, &by_energy_, &by_mean_, &sign_around_,
                         &sign_prediction_, &sign_position_}) {
    relax(*counters, seen_by_new_layer);
  }
  Layer layer;
  layer.allowance = allowance;
  layer.flat = weights.height * weights.width == 1;
  code_header(coder, weights, layer);
  const auto blocks = static_cast<std::size_t>((weights.channels + block - 1) / block * weights.height * weights.width);
  layer.counts.resize(blocks);
  if (layer.blocks) layer.block_column.resize(std::min(blocks, column_mask + 1));
  const auto channels = std::min(static_cast<std::size_t>(weights.channels), channel_mask + 1);
  layer.channel.resize(channels);
  layer.channel_sign.resize(channels);
  for (std::int64_t output = 0; output < weights.outputs; ++output) {
    ask(poll);
    if (rich_) {
      code_output<true>(coder, weights, output, layer);
    } else {
      code_output<false>(coder, weights, output, layer);
    }
  }
}

template void WeightModel::code(Encoder&, const Weights<const std::int8_t>&, const Poll&, Allowance*);
template void WeightModel::code(Decoder&, const Weights<std::int8_t>&, const Poll&, Allowance*);

}  // namespace paretrim::trim
