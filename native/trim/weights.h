// The weights of one layer, or of some of its output channels: where the zeros are, block by block, then the values around them.
// Written once for both directions; see SPEC.md, "Integer weights".
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "trim/models.h"
#include "trim/value_table.h"
#include "types/poll.h"

namespace paretrim::trim {

inline constexpr int block = 4;  // consecutive input channels of one output channel and kernel position

// Values [outputs, channels, height, width], and the scale of every output channel where there are scales.
template <typename Value>
struct Weights {
  Value* values;
  std::int64_t outputs, channels, height, width;
  const float* scales;
};

// Numbers 0, 1, 2, 3 .. of a magnitude that grow by one with every doubling, `steps` to a doubling; 0 for 0.
template <int steps>
int doublings(std::uint32_t magnitude) {
  static_assert(steps == 1 || steps == 2 || steps == 4 || steps == 8);
  if (magnitude == 0) return 0;
  const int exponent = 31 - __builtin_clz(magnitude);
  const std::uint32_t fraction = exponent >= 3 ? magnitude >> (exponent - 3) & 7 : magnitude << (3 - exponent) & 7;
  return 1 + exponent * steps + static_cast<int>(fraction * steps / 8);
}

// What was learned from the weights so far; layers of one record share it.
class WeightModel {
 public:
  // A rich model mixes what several surroundings say of every bit; a plain one is read faster and asks only the nearest.
  // With `tables`, layers of few values have a table of them.
  explicit WeightModel(bool rich, bool tables = false) : rich_(rich), tables_(tables) {}

  // `poll` is called before every row.
  template <class Coder>
  void code(Coder& coder, const Weights<std::conditional_t<Coder::decodes, std::int8_t, const std::int8_t>>& weights,
            const Poll& poll);

 private:
  static constexpr int positions = 9;   // classes of kernel positions
  static constexpr int nodes = 128;     // of the tree of seven bits
  static constexpr int exact_bits = 3;  // low bits of a magnitude that the surroundings say nothing about

  // What the surroundings of one weight are: left and above in the kernel, and the same position one input channel before.
  struct Neighbours {
    int left = 0, above = 0, corner = 0, before = 0, row_before = 0;
  };
  // Mean magnitude so far in the row, in units of 1/256.
  struct Mean {
    std::uint32_t value = 20 << 8, seen = 0;
    void add(std::uint32_t magnitude);
  };
  struct Layer {
    std::vector<Counter> block_column, channel, channel_sign;
    // Weights that are not 0 in the blocks of the output channel at hand, or else the one before.
    std::vector<std::uint8_t> counts;
    Counter any_block, any_weight;
    Mean mean;
    float floor = 0;
    bool blocks = false;              // whether blocks without any weight are marked
    bool sided = false;               // whether negative values have other magnitudes than positive ones
    bool flat = false;                // whether kernels have one position
    bool raw_signs = false;           // whether nothing is known about signs
    int raw_bits = 0;                 // low bits of a magnitude that nothing is known about
    std::optional<ValueTable> table;  // of the values, where there are few
  };

  // What is learned within one output channel.
  template <typename Value>
  struct Row {
    Value* values = nullptr;
    std::int64_t output = 0;
    int smallest = 1;  // magnitude of a value other than 0
    Counter any_block;
    std::array<Counter, block> any_weight;  // by the weights of the block before that are not 0
    Mean mean;
  };
  // Where in an output channel: which block of input channels, of how many, and where in the kernel.
  struct Place {
    std::int64_t block = 0, x = 0, y = 0, position = 0;
    int width = 0;
    int place = 0;  // class of the position
  };

  template <bool rich, class Coder, typename Value>
  void code_output(Coder& coder, const Weights<Value>& weights, std::int64_t output, Layer& layer);
  template <bool rich, class Coder, typename Value>
  bool code_block_flag(Coder& coder, const Weights<Value>& weights, const Place& at, Row<Value>& row, Layer& layer);
  template <bool rich, class Coder, typename Value>
  int code_block(Coder& coder, const Weights<Value>& weights, const Place& at, Row<Value>& row, Layer& layer);
  template <bool rich, class Coder, typename Value>
  bool code_weight_flag(Coder& coder, bool any, const Neighbours& around, const Place& at, int index, int seen, Row<Value>& row,
                        Layer& layer);
  template <bool rich, class Coder>
  int code_value(Coder& coder, int value, const Neighbours& around, int position, int smallest, Counter& channel_sign, Mean& mean,
                 const Layer& layer);
  template <bool rich, class Coder>
  bool code_sign(Coder& coder, bool negative, const Neighbours& around, int prediction, int position, Counter& channel);
  template <bool rich, class Coder>
  int code_magnitude(Coder& coder, int magnitude, const std::array<Counter*, 3>& tables, Counter* exact, int raw);
  template <class Coder>
  int code_listed(Coder& coder, int value, const Neighbours& around, Mean& mean, Layer& layer);
  template <class Coder, typename Value>
  void code_header(Coder& coder, const Weights<Value>& weights, Layer& layer);
  template <typename Value>
  void choose_raw(const Weights<Value>& weights, Layer& layer);
  template <typename Value>
  static Neighbours around_of(const Weights<Value>& weights, const std::int8_t* weight, std::int64_t x, std::int64_t y,
                              std::int64_t channel, std::int64_t output);

  static int class_of_prediction(const Neighbours& around);
  static std::uint32_t energy_of(const Neighbours& around);
  static int sign_context(const Neighbours& around, int prediction);

  bool rich_, tables_;
  std::array<Mixer<4>, positions> block_mixers_ = filled<4, positions>(22000);
  std::array<Mixer<4>, 16> weight_mixers_ = filled<4, 16>(22000);
  std::array<Mixer<3>, nodes> value_mixers_ = filled<3, nodes>(26000);
  Mixer<4> sign_mixer_ = Mixer<4>(20000);
  std::vector<Counter> block_around_ = std::vector<Counter>(positions * 81);
  std::vector<Counter> weight_around_ = std::vector<Counter>(16 * 16 * positions);
  std::vector<Counter> by_node_ = std::vector<Counter>(2 * nodes);
  std::vector<Counter> by_prediction_ = std::vector<Counter>(32 * 2 * nodes);
  std::vector<Counter> by_energy_ = std::vector<Counter>(32 * 2 * nodes);
  std::vector<Counter> by_mean_ = std::vector<Counter>(128 * 2 * nodes);
  std::vector<Counter> sign_around_ = std::vector<Counter>(19 * 27);
  std::vector<Counter> sign_prediction_ = std::vector<Counter>(19);
  std::vector<Counter> sign_position_ = std::vector<Counter>(positions);

  template <int N, int Count>
  static std::array<Mixer<N>, Count> filled(std::int32_t weight) {
    std::array<Mixer<N>, Count> result;
    result.fill(Mixer<N>(weight));
    return result;
  }
};

}  // namespace paretrim::trim
