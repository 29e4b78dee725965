// Weights by their frequencies alone, which are written before them: where little but frequencies is known, this takes no more
// bytes than learning does and is read many times as fast. See SPEC.md, "Weights by frequencies".
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/rans.h"
#include "trim/weights.h"

namespace paretrim::trim {

inline constexpr std::size_t most_kinds = 32;
inline constexpr int marked = 8;  // consecutive input channels that a mask speaks of

// Masks of a part of a row, and behind them the values that they mark.
struct MaskRun {
  static constexpr std::size_t longest = 4096;  // masks
  std::vector<std::uint8_t> masks = std::vector<std::uint8_t>(longest);
  std::vector<std::uint8_t> values = std::vector<std::uint8_t>(longest * marked);
};

// Symbols `first` to `first + size - 1`, whose shares sum up to `all`.
struct Alphabet {
  std::size_t first, size;
  std::uint32_t all;
};

// Shares of one alphabet, as differences: from those of another table, or where that is null each from the share before it.
template <class Coder>
void code_steps(Coder& coder, NumberModel& numbers, Shares& here, const Shares* before, const Alphabet& of);

// Frequencies of one alphabet, by the kind of row. Every row says of which kind it is.
class KindTables {
 public:
  // `size` symbols with 4096 shares, or with `mirrored` as many on both sides of 0, which has none.
  KindTables(std::size_t size, bool mirrored);

  // One kind more, of symbols that occur so often. Gives the bits that they take, in units of 2^-16.
  std::uint64_t add(std::array<std::uint64_t, 256> counts);
  template <class Coder>
  void code_shares(Coder& coder);
  template <class Coder>
  std::size_t code_kind(Coder& coder, std::size_t kind);

  std::vector<Shares> shares;  // by kind

 private:
  void mirror(Shares& shares) const;
  std::uint32_t all() const { return mirrored_ ? all_shares / 2 : all_shares; }

  std::size_t size_;
  bool mirrored_;
  NumberModel numbers_;
  std::size_t last_ = 0;
  std::vector<Counter> kind_ = std::vector<Counter>(most_kinds), kind_after_ = std::vector<Counter>(most_kinds * most_kinds);
  std::vector<Mixer<2>> kind_mixers_ = std::vector<Mixer<2>>(5, Mixer<2>(32768));
};

// What a writer knows of the rows of a record before it writes them.
struct RowKinds {
  KindTables masks, values;
  std::vector<std::uint8_t> mask_kinds, value_kinds;  // by row
};

// Without rows where there are none, or where a value of -128, which has no share, forbids this coding.
RowKinds kinds_of(const std::vector<Weights<const std::int8_t>>& pieces);

class StaticEncoder {
 public:
  StaticEncoder(Encoder& coder, const RowKinds& kinds);
  void code(const Weights<const std::int8_t>& weights);
  // Rows that are left out.
  void skip(std::size_t rows) { row_ += rows; }
  std::vector<std::uint8_t> finish() const { return symbols_.finish(); }

 private:
  Encoder& coder_;
  const RowKinds& kinds_;
  KindTables masks_, values_;
  std::size_t row_ = 0;
  SymbolEncoder symbols_;
  MaskRun runs_;
};

class StaticDecoder {
 public:
  StaticDecoder(Decoder& coder, const std::uint8_t* symbols, std::size_t size);
  // All values are 0 before. `poll` is called before every row.
  void code(const Weights<std::int8_t>& weights, const Poll& poll);
  void finish() const { symbols_.finish(); }
  std::size_t bytes_left() const { return symbols_.left(); }

 private:
  Decoder& coder_;
  KindTables masks_, values_;
  std::vector<SymbolTable> mask_tables_, value_tables_;
  SymbolDecoder symbols_;
  MaskRun runs_;
};

}  // namespace paretrim::trim
