// plan_test: what future kernels and operations may rely on. Packed weights state their element type and hold every weight; a
// step may read several run-time values, such as the two operands of a matrix product.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/pairs.h"
#include "plan/convolution.h"
#include "plan/memory.h"
#include "plan/parallel_runner.h"
#include "tests/random.h"

namespace paretrim::test {
namespace {

int wrong = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  ++wrong;
}

// Unpacks the nonzero blocks to their positions and compares the result with the layer's weights.
void packed_weights_hold_every_weight(std::uint64_t seed) {
  Random random(seed);
  const std::int64_t inputs = random.between(1, 13);
  const std::int64_t outputs = random.between(1, 9);
  const std::int64_t side = random.between(1, 3);
  WeightedLayer layer;
  layer.geometry.in = {inputs, 6, 6};
  layer.geometry.out = {outputs, 7 - side, 7 - side};
  layer.geometry.kernel = {side, side};
  layer.geometry.stride = layer.geometry.dilation = {1, 1};
  std::vector<std::int8_t> weights(static_cast<std::size_t>(outputs * inputs * side * side));
  for (std::int8_t& weight : weights) weight = static_cast<std::int8_t>(random.chance(70) ? 0 : random.between(-127, 127));
  layer.weight = weights.data();

  const NonzeroBlocks nonzero(layer);
  expect(nonzero.element() == Element::int8, "packed weights do not say that they are int8");
  std::vector<std::int8_t> unpacked(weights.size());
  Room<Block> room;
  for (std::size_t o = 0; o < nonzero.channels(); ++o) {
    const NonzeroBlocks::Range found = nonzero.of(o, room);
    expect(static_cast<std::size_t>(found.last - found.first) == nonzero.before(o + 1) - nonzero.before(o),
           "a channel has another number of blocks than was counted");
    for (const Block& one : found) {
      const auto position = static_cast<std::int64_t>(one.key / nonzero.planes());
      const auto plane = static_cast<std::int64_t>(one.key % nonzero.planes());
      expect(one.word != 0, "a block of zeros was packed");
      for (std::int64_t c = plane * block; c < std::min(plane * block + block, inputs); ++c) {
        const std::int64_t at = (static_cast<std::int64_t>(o) * inputs + c) * side * side + position;
        unpacked[static_cast<std::size_t>(at)] = static_cast<std::int8_t>(one.word >> (8 * (c % block)));
      }
    }
  }
  expect(unpacked == weights, "packed weights differ from the layer's weights");
}

// Float layers with and without zeros: the blocks of adjacent channels are those of their group's weights, in their order, and a
// union holds a rank if one of its channels does.
void unions_of_float_blocks_hold_every_weight(std::uint64_t seed) {
  Random random(seed);
  const std::int64_t groups = random.between(1, 3), depth = random.between(1, 20), outputs = random.between(1, 20);
  const std::int64_t side = random.between(1, 3), zeros = random.chance(50) ? 0 : 3;
  WeightedLayer layer;
  layer.element = Element::float32;
  layer.groups = groups;
  layer.geometry.in = {groups * depth * block, 6, 6};
  layer.geometry.out = {groups * outputs * block, 7 - side, 7 - side};
  layer.geometry.kernel = {side, side};
  layer.geometry.stride = layer.geometry.dilation = {1, 1};
  const std::int64_t row = depth * side * side;
  std::vector<float> weights(static_cast<std::size_t>(groups * outputs * row));
  for (float& weight : weights) weight = random.chance(zeros) ? 0.0F : static_cast<float>(random.between(1, 1 << 20));
  layer.float_weight = weights.data();

  const NonzeroBlocks nonzero(layer);
  const View view = view_for({ViewKind::columns, 1, 1, 1, 1}, layer);
  BlockOrder order(view, nonzero, kernels_named(""));
  for (const std::size_t lanes : {std::size_t{1}, std::size_t{16}, std::size_t{24}}) {
    double used = 0;
    for (std::size_t first = 0; first < nonzero.channels(); first += lanes) {
      std::vector<float> left(weights.begin() + static_cast<std::ptrdiff_t>(first) * row,
                              weights.begin() + static_cast<std::ptrdiff_t>(std::min(first + lanes, nonzero.channels())) * row);
      std::int64_t before = -1;
      order.each(nonzero, first, lanes, [&](std::size_t rank, const std::uint32_t* words) {
        used += 1;
        bool any = false;
        const std::int64_t at = static_cast<std::int64_t>(rank);
        expect(at > before, "blocks are not in order");
        before = at;
        for (std::size_t lane = 0; lane < lanes; ++lane) {
          float value = 0;
          std::memcpy(&value, words + lane, sizeof value);
          if (value == 0) continue;
          any = true;
          const std::int64_t channel = static_cast<std::int64_t>(first + lane);
          const std::int64_t place = at - static_cast<std::int64_t>(nonzero.first_plane(first + lane)) * side * side;
          const bool own = channel < groups * outputs && place >= 0 && place < row;
          expect(own, "a block is of no weight of its channel");
          if (!own) continue;
          float& weight = left[static_cast<std::size_t>(static_cast<std::int64_t>(lane) * row + place)];
          expect(weight == value, "a block is of another weight");
          weight = 0;
        }
        expect(any, "a union has a rank that no channel has");
      });
      expect(std::all_of(left.begin(), left.end(), [](float weight) { return weight == 0; }), "a weight has no block");
    }
    expect(used == nonzero.in_unions(lanes), "the blocks of unions were counted wrongly");
  }
}

std::int32_t weight_of(std::uint32_t word, int i) { return static_cast<std::int8_t>(word >> (8 * i)); }

// Every pair of weights, beside another pair: the two words add up to the given one, both can be used, and a word that could be
// used from the start is not changed.
void split_words_add_up() {
  for (std::int32_t a = -128; a < 128; ++a) {
    for (std::int32_t b = -128; b < 128; ++b) {
      const std::uint32_t pair = static_cast<std::uint8_t>(a) | static_cast<std::uint32_t>(static_cast<std::uint8_t>(b)) << 8U;
      const std::uint32_t given = pair | (~pair & 0xFFFFU) << 16U;
      std::uint32_t word = given;
      const std::uint32_t rest = split_pairs(word);
      for (int i = 0; i < block; i += 2) {
        for (const std::uint32_t used : {word, rest}) {
          expect(255 * (std::abs(weight_of(used, i)) + std::abs(weight_of(used, i + 1))) <= 32767,
                 "a pair does not fit in 16 bits");
        }
        for (int j = i; j < i + 2; ++j) {
          expect(weight_of(word, j) + weight_of(rest, j) == weight_of(given, j), "a split word is not the same weights");
        }
        const bool fits = std::abs(weight_of(given, i)) + std::abs(weight_of(given, i + 1)) <= largest_pair;
        expect(!fits || (rest >> (8 * i) & 0xFFFFU) == 0, "a pair that fits was split");
      }
    }
  }
}

// Square matrices of bytes.
constexpr std::int64_t rows = 9;
constexpr std::int64_t matrix = rows * rows;

class FillStep final : public Step {
 public:
  FillStep(Buffer out, std::uint64_t seed) : seed_(seed) { writes = {out}; }
  std::int64_t parts() const override { return 1; }
  void run(std::int64_t, const Memory& memory, Scratch&) const override {
    Random random(seed_);
    for (std::int64_t i = 0; i < matrix; ++i) memory.at(writes[0])[i] = static_cast<std::uint8_t>(random.next());
  }

 private:
  const std::uint64_t seed_;
};

// The matrix product modulo 256, one part per row.
class Product final : public Step {
 public:
  explicit Product(const Operands& operands) {
    reads = operands.inputs;
    writes = {operands.output};
  }
  std::int64_t parts() const override { return rows; }
  void run(std::int64_t row, const Memory& memory, Scratch&) const override {
    const std::uint8_t* a = memory.at(reads[0]) + row * rows;
    const std::uint8_t* b = memory.at(reads[1]);
    std::uint8_t* out = memory.at(writes[0]) + row * rows;
    for (std::int64_t column = 0; column < rows; ++column) {
      unsigned sum = 0;
      for (std::int64_t i = 0; i < rows; ++i) sum += unsigned{a[i]} * b[i * rows + column];
      out[column] = static_cast<std::uint8_t>(sum);
    }
  }
};

void a_step_reads_two_values_of_the_same_call() {
  constexpr Buffer a = 2;
  constexpr Buffer b = 3;
  constexpr Buffer passing = 4;  // never read
  constexpr Buffer product = 5;
  Steps steps;
  steps.push_back(std::make_unique<FillStep>(a, 1));
  steps.push_back(std::make_unique<FillStep>(b, 2));
  steps.push_back(std::make_unique<FillStep>(passing, 3));
  steps.push_back(std::make_unique<Product>(Operands{{a, b}, product}));
  const std::vector<std::int64_t> bytes{0, 0, matrix, matrix, matrix, matrix};
  const Placement placement = place(lifetimes_of(steps, bytes));
  expect(placement.offsets[passing] == placement.offsets[product], "a dead buffer still occupies memory");

  AlignedArray<std::uint8_t> arena(static_cast<std::size_t>(placement.bytes));
  const Memory memory{nullptr, {}, 0, arena.data(), placement.offsets.data()};
  Pool pool(2);
  ScratchSet own(1, 0);
  ScratchSet others(1, 0);
  ParallelRunner runner(steps.size(), pool.threads());
  std::vector<std::uint8_t> expected(matrix);
  Random random_a(1);
  Random random_b(2);
  std::vector<unsigned> left(matrix);
  std::vector<unsigned> right(matrix);
  for (unsigned& value : left) value = static_cast<std::uint8_t>(random_a.next());
  for (unsigned& value : right) value = static_cast<std::uint8_t>(random_b.next());
  for (std::int64_t i = 0; i < matrix; ++i) {
    unsigned sum = 0;
    for (std::int64_t k = 0; k < rows; ++k) {
      sum += left[static_cast<std::size_t>(i / rows * rows + k)] * right[static_cast<std::size_t>(k * rows + i % rows)];
    }
    expected[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(sum);
  }
  for (int call = 0; call < 3; ++call) {
    std::memset(arena.data(), 0, arena.size());
    expect(runner.run(steps, memory, own.at(0), others, pool), "the pool is busy although no other caller uses it");
    expect(std::memcmp(memory.at(product), expected.data(), matrix) == 0, "the product of two run-time values is wrong");
  }
}

}  // namespace
}  // namespace paretrim::test

int main() {
  for (std::uint64_t seed = 0; seed < 100; ++seed) paretrim::test::packed_weights_hold_every_weight(seed);
  for (std::uint64_t seed = 0; seed < 200; ++seed) paretrim::test::unions_of_float_blocks_hold_every_weight(seed);
  paretrim::test::split_words_add_up();
  paretrim::test::a_step_reads_two_values_of_the_same_call();
  return paretrim::test::wrong == 0 ? 0 : 1;
}
