#include "trim/numbers.h"

#include <algorithm>
#include <cstring>

#include "graph/short_floats.h"
#include "trim/bytes.h"
#include "trim/range_coder.h"

namespace paretrim::trim {
namespace {

constexpr int exact_bits = 20;  // float32 mantissa bits below the top three, which are modelled

std::uint32_t load(const std::uint8_t* from) {
  std::uint32_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

int class_of_step(int step) { return step == 0 ? 0 : step == 1 ? 1 : step == 255 ? 2 : 3; }

// Mantissa bits of a type below the top three.
int rest_bits_of(Dtype type) { return type == Dtype::float16 ? 7 : type == Dtype::bfloat16 ? 4 : exact_bits; }

// Bits of a number as float32.
std::uint32_t load_float(const std::uint8_t* from, Dtype type) {
  return type == Dtype::float32 ? load(from) : widened(from, type);
}

void store_float(std::uint8_t* to, std::uint32_t bits, Dtype type) {
  if (type == Dtype::float32) {
    std::memcpy(to, &bits, sizeof bits);
  } else if (!narrow(bits, type, to)) {
    corrupt("a number in it is not a " + text_of(type));
  }
}

}  // namespace

bool noisy(const std::uint8_t* bytes, std::size_t count, Dtype type) {
  const int rest = rest_bits_of(type), seen = std::min(rest, 12);
  const std::uint32_t last = ((1U << seen) - 1) << (exact_bits - rest);
  std::size_t round = 0, values = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = load_float(bytes + bytes_of(type) * i, type);
    values += bits != 0;
    round += bits != 0 && (bits & last) == 0;
  }
  return 8 * round < values;
}

// A float other than +0: exponent, sign, the top three mantissa bits with a model, then the other `rest_bits`.
template <class Coder>
std::uint32_t NumberModel::code_float(Coder& coder, std::uint32_t bits, int rest_bits, bool raw) {
  const std::uint32_t exponent = code_after(coder, bits >> 23 & 255, 8, exponent_mixers_.data(), exponent_.data(),
                                            &exponent_after_[(last_exponent_ & 15) * 256]);
  last_exponent_ = exponent;
  last_sign_ = code_plain(coder, bits >> 31, float_sign_[last_sign_], mobile);
  const std::uint32_t top = code_tree(coder, bits >> exact_bits & 7, 3, &mantissa_[(exponent & 15) * 8], steady);
  const int missing = exact_bits - rest_bits;
  std::uint32_t rest = 0;
  if (raw) {
    rest = code_raw(coder, bits >> missing & ((1U << rest_bits) - 1), rest_bits);
  } else {
    for (int k = exact_bits - 1; k >= missing; --k) {
      rest = rest << 1 | code_plain(coder, bits >> k & 1, low_[2 * k + (rest & 1)], mobile);
    }
  }
  return std::uint32_t{last_sign_} << 31 | exponent << 23 | top << exact_bits | rest << missing;
}

template <class Coder>
void NumberModel::code_floats(Coder& coder, Bytes<Coder> bytes, std::size_t count, Dtype type, Allowance* allowance) {
  bool raw = false;
  if constexpr (!Coder::decodes) raw = noisy(bytes, count, type);
  raw = code_raw(coder, raw, 1) != 0;
  const int rest_bits = rest_bits_of(type);
  for (std::size_t i = 0; i < count; ++i) {
    auto* const place = bytes + bytes_of(type) * i;
    std::uint32_t bits = Coder::decodes ? 0 : load_float(place, type);
    last_zero_ = !code_plain(coder, bits != 0, float_zero_[last_zero_], mobile);
    bits = last_zero_ ? 0 : code_float(coder, bits, rest_bits, raw);
    if constexpr (Coder::decodes) {
      store_float(place, bits, type);
      if (allowance != nullptr && !last_zero_) allowance->take(bytes_of(type));
    }
  }
}

template <class Coder>
void NumberModel::code_integers(Coder& coder, Bytes<Coder> bytes, std::size_t count) {
  bool negative = false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = Coder::decodes ? 0 : load(bytes + 4 * i);
    std::uint32_t size = bits >> 31 ? ~bits + 1 : bits;
    std::uint32_t length = 0;
    while (length < 32 && size >> length) ++length;
    length = code_after(coder, length, 6, length_mixers_.data(), length_.data(), &length_after_[last_length_ * 64]);
    last_length_ = length;
    if (length > 32) length = 32;  // happens only in forged files
    if (length > 0) {
      negative = code_plain(coder, bits >> 31, integer_sign_[negative], mobile);
      const int below = static_cast<int>(length) - 1, learned = std::min(below, 2);
      const std::uint32_t rest = size ^ (1U << below);
      const std::uint32_t top = code_tree(coder, rest >> (below - learned), learned, &leading_[length * 4], mobile);
      const std::uint32_t low = code_raw(coder, rest & ((1U << (below - learned)) - 1), below - learned);
      size = 1U << below | top << (below - learned) | low;
    }
    if constexpr (Coder::decodes) {
      const std::uint32_t value = length == 0 ? 0 : negative ? ~size + 1 : size;
      std::memcpy(bytes + 4 * i, &value, sizeof value);
    }
  }
}

template <class Coder>
void NumberModel::code_bytes(Coder& coder, Bytes<Coder> bytes, std::size_t count, const std::uint8_t* prediction) {
  std::uint32_t history = 0;  // classes of the last four differences
  std::uint8_t before = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t expected = prediction ? prediction[i] : before;
    int step = Coder::decodes ? 0 : static_cast<std::uint8_t>(bytes[i] - expected);
    const int is = class_of_step(step);
    int found = 0;
    while (found < 3 && !code_mixed<Coder, 2>(coder, is == found, step_mixers_[found],
                                              {&step_near_[(history & 15) * 3 + found], &step_far_[(history & 255) * 3 + found]},
                                              {mobile, mobile})) {
      ++found;
    }
    if (found < 3) {
      step = found == 2 ? 255 : found;
    } else {
      step = static_cast<int>(code_tree(coder, static_cast<std::uint32_t>(step), 8, step_other_.data(), mobile));
    }
    history = history << 2 | static_cast<std::uint32_t>(found);
    before = static_cast<std::uint8_t>(expected + step);
    if constexpr (Coder::decodes) bytes[i] = before;
  }
}

template <class Coder>
void TextModel::code(Coder& coder, Bytes<Coder> bytes, std::size_t count) {
  std::uint32_t last = 0;  // the last four bytes, the newest in the low byte
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t node = 1;
    const std::uint32_t byte = Coder::decodes ? 0 : bytes[i];
    for (int k = 7; k >= 0; --k) {
      Counter* found[orders];
      for (std::uint32_t order = 0; order < orders; ++order) {
        const std::uint32_t context = order == 0 ? 0 : order == 4 ? last : last & ((1U << 8 * order) - 1);
        const std::uint32_t mixed = (context * 0x85ebca6b + order) ^ node * 0x9e3779b1;
        found[order] = &counters_[(order << 16) + ((mixed ^ mixed >> 15) * 0x27d4eb2f >> 16)];
      }
      node = node << 1 |
             code_mixed<Coder, orders>(coder, byte >> k & 1, mixers_[node], {found[0], found[1], found[2], found[3], found[4]},
                                       {mobile, mobile, mobile, mobile, mobile});
    }
    if constexpr (Coder::decodes) bytes[i] = static_cast<std::uint8_t>(node);
    last = last << 8 | (node & 255);
  }
}

template void NumberModel::code_floats(Encoder&, const std::uint8_t*, std::size_t, Dtype, Allowance*);
template void NumberModel::code_floats(Decoder&, std::uint8_t*, std::size_t, Dtype, Allowance*);
template void NumberModel::code_integers(Encoder&, const std::uint8_t*, std::size_t);
template void NumberModel::code_integers(Decoder&, std::uint8_t*, std::size_t);
template void NumberModel::code_bytes(Encoder&, const std::uint8_t*, std::size_t, const std::uint8_t*);
template void NumberModel::code_bytes(Decoder&, std::uint8_t*, std::size_t, const std::uint8_t*);
template void TextModel::code(Encoder&, const std::uint8_t*, std::size_t);
template void TextModel::code(Decoder&, std::uint8_t*, std::size_t);

}  // namespace paretrim::trim
