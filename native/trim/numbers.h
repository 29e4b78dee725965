// Adaptive models for everything except integer weights: floats, 32-bit integers, bytes and text. Shared code encodes and
// decodes. See SPEC.md, "Numbers and text".
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "graph/graph.h"
#include "trim/budget.h"
#include "trim/models.h"

namespace paretrim::trim {

// Bytes that an encoder reads and a decoder writes.
template <class Coder>
using Bytes = std::conditional_t<Coder::decodes, std::uint8_t*, const std::uint8_t*>;

// Whether the low mantissa bits are noise, which is not worth modelling: fewer than an eighth of the values end in zeros, for
// float32 in twelve.
bool noisy(const std::uint8_t* bytes, std::size_t count, Dtype type);

// The model of numbers; all tensors of one record share it.
class NumberModel {
 public:
  // `count` values of float32, float16 or bfloat16, bit for bit. A decoder takes those other than 0 from the allowance, if any.
  template <class Coder>
  void code_floats(Coder& coder, Bytes<Coder> bytes, std::size_t count, Dtype type, Allowance* allowance = nullptr);
  // `count` int32 values.
  template <class Coder>
  void code_integers(Coder& coder, Bytes<Coder> bytes, std::size_t count);
  // `count` bytes, as differences from `prediction` or, if that is null, from the byte before.
  template <class Coder>
  void code_bytes(Coder& coder, Bytes<Coder> bytes, std::size_t count, const std::uint8_t* prediction);

 private:
  template <class Coder>
  std::uint32_t code_float(Coder& coder, std::uint32_t bits, int rest_bits, bool raw);

  std::uint32_t last_exponent_ = 0, last_length_ = 0;
  bool last_sign_ = false, last_zero_ = false;
  std::vector<Counter> float_zero_ = std::vector<Counter>(2), float_sign_ = std::vector<Counter>(2);
  std::vector<Counter> exponent_ = std::vector<Counter>(256), exponent_after_ = std::vector<Counter>(16 * 256);
  std::vector<Counter> mantissa_ = std::vector<Counter>(16 * 8), low_ = std::vector<Counter>(2 * 20);
  std::vector<Counter> length_ = std::vector<Counter>(64), length_after_ = std::vector<Counter>(64 * 64);
  std::vector<Counter> leading_ = std::vector<Counter>(64 * 4), integer_sign_ = std::vector<Counter>(2);
  std::vector<Counter> step_near_ = std::vector<Counter>(16 * 3), step_far_ = std::vector<Counter>(256 * 3);
  std::vector<Counter> step_other_ = std::vector<Counter>(256);
  std::vector<Mixer<2>> exponent_mixers_ = std::vector<Mixer<2>>(8, Mixer<2>(32768));
  std::vector<Mixer<2>> length_mixers_ = std::vector<Mixer<2>>(6, Mixer<2>(32768));
  std::vector<Mixer<2>> step_mixers_ = std::vector<Mixer<2>>(3, Mixer<2>(32768));
};

// The model of text and of the structure: predicts each byte from the last one to four bytes.
class TextModel {
 public:
  template <class Coder>
  void code(Coder& coder, Bytes<Coder> bytes, std::size_t count);

 private:
  static constexpr int orders = 5;
  std::vector<Counter> counters_ = std::vector<Counter>(orders << 16);
  std::vector<Mixer<orders>> mixers_ = std::vector<Mixer<orders>>(256, Mixer<orders>(20000));
};

}  // namespace paretrim::trim
