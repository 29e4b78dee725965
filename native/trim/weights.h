// The adaptive model of integer weights: codes zero flags by block and weight, then the nonzero values, each in the context of
// its neighbours. Shared code encodes and decodes. See SPEC.md, "Integer weights".
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "trim/budget.h"
#include "trim/models.h"
#include "trim/value_table.h"
#include "types/poll.h"

namespace paretrim::trim {

inline constexpr int block = 4;  // consecutive input channels of one output channel and kernel position

// Weights [outputs, channels, height, width], and the scale of each output channel, or null.
template <typename Value>
struct Weights {
  Value* values;
  std::int64_t outputs, channels, height, width;
  const float* scales;
};

// A logarithmic class of a magnitude: 0 for 0, then 1, 2, 3 .. with `steps` classes per doubling.
template <int steps>
int doublings(std::uint32_t magnitude) {
  static_assert(steps == 1 || steps == 2 || steps == 4 || steps == 8);
  if (magnitude == 0) return 0;
  const int exponent = 31 - __builtin_clz(magnitude);
  const std::uint32_t fraction = exponent >= 3 ? magnitude >> (exponent - 3) & 7 : magnitude << (3 - exponent) & 7;
  return 1 + exponent * steps + static_cast<int>(fraction * steps / 8);
}

// The model; all layers of one record share it.
class WeightModel {
 public:
  // A rich model mixes several contexts for each bit; a plain one uses a single context and reads faster. If `tables`, layers
  // with few distinct values have a table.
  explicit WeightModel(bool rich, bool tables = false) : rich_(rich), tables_(tables) {}

  // `poll` is called before every row. A decoder takes weights other than 0 from the allowance, if any.
  template <class Coder>
  void code(Coder& coder, const Weights<std::conditional_t<Coder::decodes, std::int8_t, const std::int8_t>>& weights,
            const Poll& poll, Allowance* allowance = nullptr);

 private:
  static constexpr int positions = 9;   // classes of kernel positions
  static constexpr int nodes = 128;     // of the tree of seven bits
  static constexpr int exact_bits = 3;  // low bits of a magnitude, which are coded without context

  // Neighbours of a weight: in the kernel, and at the same position in the input channel and in the output channel before.
  struct Neighbours {
    int left = 0, above = 0, corner = 0, before = 0, row_before = 0;
  };
  // Running mean of magnitudes, in units of 1/256.
  struct Mean {
    std::uint32_t value = 20 << 8, seen = 0;
    void add(std::uint32_t magnitude);
  };
  struct Layer {
    std::vector<Counter> block_column, channel, channel_sign;
    // Nonzero weights per block, in the current output channel or, for blocks still to come, in the one before.
    std::vector<std::uint8_t> counts;
    Counter any_block, any_weight;
    Mean mean;
    float floor = 0;
    bool blocks = false;              // whether empty blocks are marked
    bool sided = false;               // whether negative and positive values have separate statistics
    bool flat = false;                // whether kernels have a single position
    bool raw_signs = false;           // whether signs are coded without a model
    int raw_bits = 0;                 // low bits of magnitudes that are coded without a model
    std::optional<ValueTable> table;  // if there are few distinct values
    Allowance* allowance = nullptr;   // of a decoder
  };

  // State within one output channel.
  template <typename Value>
  struct Row {
    Value* values = nullptr;
    std::int64_t output = 0;
    int smallest = 1;  // smallest nonzero magnitude
    Counter any_block;
    std::array<Counter, block> any_weight;  // by the number of nonzero weights so far in the block
    Mean mean;
  };
  // A place in an output channel: a block of `width` input channels, and a kernel position.
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
  static Neighbours neighbours_of(const Weights<Value>& weights, const std::int8_t* weight, std::int64_t x, std::int64_t y,
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
