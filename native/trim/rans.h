// Static entropy coding with interleaved rANS. Frequencies are shares of 4096; eight interleaved states let a CPU decode several
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

// The share of 4096 of each byte value. Their sum is 4096.
using Shares = std::array<std::uint16_t, 256>;

// Quantizes counts to shares that sum to `all` (at most 4096) and code the counts about as short as possible. A symbol that
// occurs has a share of at least one. Counts must be below 2^40, and one of them above 0.
void share_out(const std::uint64_t* counts, std::size_t size, std::uint32_t all, std::uint16_t* shares);

// Size of `count` symbols with this share, in units of 2^-16 bits.
std::uint64_t bits_of(std::uint64_t count, std::uint32_t share);

// The decoding table: the symbol for each of the 4096 slots.
struct SymbolTable {
  explicit SymbolTable(const Shares& shares);
  // Bits 0 to 7: the symbol. Bits 8 to 19: the index within its slots. Bits 20 to 31: its share minus one.
  std::array<std::uint32_t, all_shares> parts;
};

class SymbolEncoder {
 public:
  // Reserves memory for about so many symbols.
  void expect(std::size_t symbols) { parts_.reserve(symbols); }
  // Appends a run of symbols.
  void add(const std::uint8_t* symbols, std::size_t count, const Shares& shares);
  // The stream, in memory of the encoder. The next run begins another stream.
  struct Stream {
    const std::uint8_t* data;
    std::size_t size;
  };
  Stream finish();

 private:
  struct Part {
    std::uint16_t first, share;
  };
  std::vector<Part> parts_;
  std::vector<std::size_t> ends_;  // of the runs
  std::vector<std::uint8_t> stream_;
};

class SymbolDecoder {
 public:
  // Throws corrupt_file if the bytes cannot be a stream.
  SymbolDecoder(const std::uint8_t* data, std::size_t size);
  void take(std::uint8_t* symbols, std::size_t count, const SymbolTable& table);
  // Throws corrupt_file unless the stream ends here.
  void finish() const;
  std::size_t left() const { return static_cast<std::size_t>(end_ - next_); }

 private:
  const std::uint8_t* next_;
  const std::uint8_t* end_;
  std::array<std::uint32_t, states> states_;
};

}  // namespace paretrim::trim
