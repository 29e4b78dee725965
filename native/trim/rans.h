// Static coding: every symbol takes its share of 4096 parts, and several states take turns, so that a processor finds several
// symbols at once. See SPEC.md, "Symbols".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace paretrim::trim {

inline constexpr int share_bits = 12;
inline constexpr std::uint32_t all_shares = 1 << share_bits;
inline constexpr std::size_t states = 8;  // symbol i of a run is coded by state i % 8
inline constexpr std::uint32_t smallest_state = 1 << 16;

// How many of the 4096 parts each byte has; they sum up.
using Shares = std::array<std::uint16_t, 256>;

// Shares that sum up to `all` (4096, or less) and make `counts` about as short as possible; what occurs has at least one.
// Counts below 2^40 and at least one above 0.
void share_out(const std::uint64_t* counts, std::size_t size, std::uint32_t all, std::uint16_t* shares);

// Bits of so many symbols of such a share, in units of 2^-16.
std::uint64_t bits_of(std::uint64_t count, std::uint32_t share);

// What each of the 4096 parts stands for.
struct SymbolTable {
  explicit SymbolTable(const Shares& shares);
  // Byte in bits 0 to 7, place within the symbol's parts in 8 to 19, their number less one in 20 to 31.
  std::array<std::uint32_t, all_shares> parts;
};

class SymbolEncoder {
 public:
  // A run of symbols follows. `shares` are kept by the caller until the end.
  void add(const std::uint8_t* symbols, std::size_t count, const Shares& shares);
  std::vector<std::uint8_t> finish() const;

 private:
  struct Part {
    std::uint16_t first, share;
  };
  std::vector<Part> parts_;
  std::vector<std::size_t> ends_;  // of the runs
};

class SymbolDecoder {
 public:
  // Throws corrupt_file where the bytes cannot be a stream.
  SymbolDecoder(const std::uint8_t* data, std::size_t size);
  void take(std::uint8_t* symbols, std::size_t count, const SymbolTable& table);
  // Throws corrupt_file unless the stream ends here, as an encoder's does.
  void finish() const;
  std::size_t left() const { return static_cast<std::size_t>(end_ - next_); }

 private:
  const std::uint8_t* next_;
  const std::uint8_t* end_;
  std::array<std::uint32_t, states> states_;
};

}  // namespace paretrim::trim
