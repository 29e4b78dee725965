// A binary arithmetic coder. The coding step is the same text for both directions: models are written once, over a Coder that
// either writes the bit it is given or finds it.
//
// The interval is [low, low + range) in units of 2**-48; range stays above 2**32, so that a 16-bit probability always splits it
// with at least 16 bits to spare and the loss against exact arithmetic is below 2**-15 of a bit.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/bytes.h"

namespace paretrim::trim {

inline constexpr std::uint64_t whole_range = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint64_t smallest_range = std::uint64_t{1} << 32;
inline constexpr int most_silent = 64;  // bytes behind the end of a stream that a decoder takes as zeros

class Encoder {
 public:
  static constexpr bool decodes = false;

  // Writes `bit`; `one` in 1..65535 is 65536 times the probability that it is 1.
  int code(int bit, std::uint32_t one) {
    const std::uint64_t bound = (range_ >> 16) * one;
    // Arithmetic and no branch: half of all bits cannot be foreseen.
    const std::uint64_t zero = static_cast<std::uint64_t>(bit) - 1;
    low_ += bound & zero;
    range_ = (bound & ~zero) | ((range_ - bound) & zero);
    normalise();
    return bit;
  }

  // Writes a number of up to 16 bits that nothing is known about.
  std::uint32_t code_raw(std::uint32_t value, int bits) {
    range_ >>= bits;
    low_ += value * range_;
    normalise();
    return value;
  }

  // The bytes written. Zeros at their end are left out, as a decoder reads zeros behind the end.
  std::vector<std::uint8_t> finish();
  // Whether what `finish` left out is no more than a decoder takes.
  bool readable() const { return left_out_ <= most_silent; }

 private:
  // Once is enough: whatever is written, 2**-16 of the range is left.
  void normalise() {
    if (range_ < smallest_range) {
      put(low_ >> 32);
      low_ = (low_ & 0xffffffff) << 16;
      range_ <<= 16;
    }
  }
  void put(std::uint64_t word);  // 16 bits and, above them, a carry into what was written before

  std::uint64_t low_ = 0;
  std::uint64_t range_ = whole_range;
  std::vector<std::uint8_t> bytes_;
  std::size_t left_out_ = 0;
};

class Decoder {
 public:
  static constexpr bool decodes = true;

  Decoder(const std::uint8_t* data, std::size_t size) : begin_(data), next_(data), end_(data + size) {
    for (int word = 0; word < 3; ++word) code_ = code_ << 16 | take();
  }

  // The bit that was written with the same probability; what it is given is ignored.
  int code(int, std::uint32_t one) {
    const std::uint64_t bound = (range_ >> 16) * one;
    // Arithmetic and no branch: half of all bits cannot be foreseen.
    const std::uint64_t zero = std::uint64_t{code_ < bound} - 1;
    code_ -= bound & zero;
    range_ = (bound & ~zero) | ((range_ - bound) & zero);
    const int bit = static_cast<int>(zero) + 1;
    normalise();
    return bit;
  }

  std::uint32_t code_raw(std::uint32_t, int bits) {
    range_ >>= bits;
    const std::uint64_t most = (std::uint64_t{1} << bits) - 1;
    const std::uint64_t found = code_ / range_;
    // Only bytes that no encoder wrote lead beyond the last part of the interval.
    const std::uint64_t value = found < most ? found : most;
    code_ -= value * range_;
    normalise();
    return static_cast<std::uint32_t>(value);
  }

  // Whether the stream ends where all is found, in a byte that says something: an encoder writes no other.
  bool ended() const { return next_ == end_ && (begin_ == end_ || end_[-1] != 0); }

  // Bits of the stream that what was found so far stands for.
  double bits() const { return 8.0 * static_cast<double>(next_ - begin_) - std::log2(static_cast<double>(range_)); }

 private:
  // Once is enough: whatever is found, 2**-16 of the range is left.
  void normalise() {
    if (range_ < smallest_range) {
      code_ = code_ << 16 | take();
      range_ <<= 16;
    }
  }

  std::uint64_t take() {
    if (end_ - next_ >= 2) {
      const std::uint64_t word = std::uint64_t{next_[0]} << 8 | next_[1];
      next_ += 2;
      return word;
    }
    if (next_ == end_) {
      silent_ += 2;
      if (silent_ > most_silent) corrupt("its coded stream ends before its values do");
      return 0;
    }
    return std::uint64_t{*next_++} << 8;
  }

  const std::uint8_t* begin_;
  const std::uint8_t* next_;
  const std::uint8_t* end_;
  std::uint64_t code_ = 0;
  std::uint64_t range_ = whole_range;
  int silent_ = 0;  // bytes taken behind the end
};

}  // namespace paretrim::trim
