// The values of a layer that has few of them: the table, and for every weight its place in it. See SPEC.md, "Tables of values".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/models.h"

namespace paretrim::trim {

inline constexpr int most_listed_values = 64;

// What stands around a weight, as classes that begin at 0.
struct Surroundings {
  int mean, energy, prediction;
};

// Learns from one piece alone: another one has other values.
class ValueTable {
 public:
  static constexpr int means = 33, energies = 33, predictions = 19;

  // The table of these values other than 0, ascending; at least one, at most 64.
  // Without values it is still to be read.
  explicit ValueTable(const std::vector<std::int8_t>& values) { set(values); }

  template <class Coder>
  void code_values(Coder& coder);
  // A value of the table.
  template <class Coder>
  int code(Coder& coder, int value, const Surroundings& around);

 private:
  void set(const std::vector<std::int8_t>& values);

  std::vector<std::int8_t> values_;
  std::array<std::uint8_t, 256> places_ = {};  // by value, as a byte
  int bits_ = 0;
  std::vector<Mixer<4>> mixers_;  // by node, as all counters
  std::vector<Counter> common_, by_mean_, by_energy_, by_prediction_;
};

}  // namespace paretrim::trim
