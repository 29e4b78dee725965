// A binary arithmetic coder. Encoder and Decoder have the same interface, so each model is written once for both directions:
// code() writes the given bit, or ignores it and returns the decoded one.
//
// The interval is [low, low + range) in units of 2**-48. The range stays at least 2**32, so a 16-bit probability always splits it
// with 16 bits to spare, and the loss against exact arithmetic is below 2**-15 of a bit.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trim/bytes.h"

namespace paretrim::trim {

inline constexpr std::uint64_t whole_range = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint64_t smallest_range = std::uint64_t{1} << 32;
inline constexpr int max_silent = 64;  // bytes past the end of a stream that a decoder reads as zeros

class Encoder {
 public:
  static constexpr bool decodes = false;

  // Writes `bit`; `one` in 1..65535 is 65536 times the probability that it is 1.
  int code(int bit, std::uint32_t one) {
    const std::uint64_t bound = (range_ >> 16) * one;
    // Branch-free, because many bits are unpredictable.
    const std::uint64_t zero = static_cast<std::uint64_t>(bit) - 1;
    low_ += bound & zero;
    range_ = (bound & ~zero) | ((range_ - bound) & zero);
    normalise();
    return bit;
  }

  // Writes a uniformly distributed number of up to 16 bits.
  std::uint32_t code_raw(std::uint32_t value, int bits) {
    range_ >>= bits;
    low_ += value * range_;
    normalise();
    return value;
  }

  // Returns the stream, without trailing zeros: a decoder reads zeros past the end.
  std::vector<std::uint8_t> finish();
  // Whether a decoder accepts the number of zeros that `finish` removed.
  bool readable() const { return left_out_ <= max_silent; }

 private:
  // Once is enough, because each step keeps at least 2**-16 of the range.
  void normalise() {
    if (range_ < smallest_range) {
      put(low_ >> 32);
      low_ = (low_ & 0xffffffff) << 16;
      range_ <<= 16;
    }
  }
  void put(std::uint64_t word);  // 16 bits, and above them a carry into the bytes before

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

  // Decodes a bit that was written with the same probability.
  int code(int, std::uint32_t one) {
    const std::uint64_t bound = (range_ >> 16) * one;
    // Branch-free, because many bits are unpredictable.
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
    // The division can exceed `most` only in forged streams.
    const std::uint64_t value = found < most ? found : most;
    code_ -= value * range_;
    normalise();
    return static_cast<std::uint32_t>(value);
  }

  // Whether the stream ends here, and in a nonzero byte, as every encoder's does.
  bool ended() const { return next_ == end_ && (begin_ == end_ || end_[-1] != 0); }

  // Number of bits of the stream that the decoded values have used so far.
  double bits() const { return 8.0 * static_cast<double>(next_ - begin_) - std::log2(static_cast<double>(range_)); }

 private:
  // Once is enough, because each step keeps at least 2**-16 of the range.
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
      if (silent_ > max_silent) corrupt("its coded stream ends before its values do");
      return 0;
    }
    return std::uint64_t{*next_++} << 8;
  }

  const std::uint8_t* begin_;
  const std::uint8_t* next_;
  const std::uint8_t* end_;
  std::uint64_t code_ = 0;
  std::uint64_t range_ = whole_range;
  int silent_ = 0;  // bytes read past the end
};

}  // namespace paretrim::trim
