// Codes integer weights with static frequencies, which are stored before them. If context tells little beyond frequencies, this
// is as short as the adaptive model and reads many times as fast. See SPEC.md, "Weights by frequencies".
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/rans.h"
#include "trim/weights.h"

namespace paretrim::trim {

inline constexpr std::size_t max_kinds = 32;
inline constexpr int marked = 8;  // consecutive input channels per mask

// The masks of a part of a row, and the values at their set bits.
struct MaskRun {
  static constexpr std::size_t longest = 4096;  // masks
  std::vector<std::uint8_t> masks = std::vector<std::uint8_t>(longest);
  std::vector<std::uint8_t> values = std::vector<std::uint8_t>(longest * marked);
};

// Symbols `first` to `first + size - 1`, whose shares sum to `all`.
struct Alphabet {
  std::size_t first, size;
  std::uint32_t all;
};

// Codes the shares of one alphabet as differences from another table's or, if `before` is null, from the share before.
template <class Coder>
void code_steps(Coder& coder, NumberModel& numbers, Shares& here, const Shares* before, const Alphabet& of);

// Frequency tables of one alphabet, one for each kind of row. The kind of each row is coded too.
class KindTables {
 public:
  // `size` symbols with 4096 shares in all. If `mirrored`, the symbols are 1 to `size` and their negatives, with equal shares.
  KindTables(std::size_t size, bool mirrored);

  // Adds a kind with these counts of symbols. Returns their coded size in units of 2^-16 bits.
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
  std::vector<Counter> kind_ = std::vector<Counter>(max_kinds), kind_after_ = std::vector<Counter>(max_kinds * max_kinds);
  std::vector<Mixer<2>> kind_mixers_ = std::vector<Mixer<2>>(5, Mixer<2>(32768));
};

// The kinds of all rows of a record, and their tables.
struct RowKinds {
  KindTables masks, values;
  std::vector<std::uint8_t> mask_kinds, value_kinds;  // by row
};

// Without rows if there are none, or if this coding is impossible because a weight is -128, which has no share.
RowKinds kinds_of(const std::vector<Weights<const std::int8_t>>& pieces);

class StaticEncoder {
 public:
  StaticEncoder(Encoder& coder, const RowKinds& kinds);
  void code(const Weights<const std::int8_t>& weights);
  // Skips rows that are not written.
  void skip(std::size_t rows) { row_ += rows; }
  std::vector<std::uint8_t> finish() {
    const SymbolEncoder::Stream stream = symbols_.finish();
    return {stream.data, stream.data + stream.size};
  }

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
  // All values must be 0 before the call. `poll` is called before every row.
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
