// Codes layers with few distinct values: a table of the values, and an index for each weight. See SPEC.md, "Tables of values".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/models.h"

namespace paretrim::trim {

inline constexpr int max_listed_values = 64;

// Context classes of a weight, counted from 0.
struct ValueContext {
  int mean, energy, prediction;
};

// The model of one piece; each piece has its own, because it has other values.
class ValueTable {
 public:
  static constexpr int means = 33, energies = 33, predictions = 19;

  // `values` holds 1 to 64 ascending nonzero values, or none if the table is to be decoded.
  explicit ValueTable(const std::vector<std::int8_t>& values) { set(values); }

  template <class Coder>
  void code_values(Coder& coder);
  // A value of the table.
  template <class Coder>
  int code(Coder& coder, int value, const ValueContext& around);

 private:
  void set(const std::vector<std::int8_t>& values);

  std::vector<std::int8_t> values_;
  std::array<std::uint8_t, 256> places_ = {};  // by value, as a byte
  int bits_ = 0;
  std::vector<Mixer<4>> mixers_;  // by node, like all counters
  std::vector<Counter> common_, by_mean_, by_energy_, by_prediction_;
};

}  // namespace paretrim::trim
