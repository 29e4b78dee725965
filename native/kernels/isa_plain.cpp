// Portable C++: the reference for the other instruction sets, and the fallback where none of them is supported.
#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace plain {
namespace {

#include "kernels/scalar.inl"

struct V {
  static constexpr int lanes = 4;
  static constexpr int registers = 12;
  static constexpr bool pairs_in_16_bits = false;
  struct Sum {
    std::uint32_t lane[lanes];  // unsigned, because intermediate sums may wrap around before the result fits int32 again
  };
  struct Pixels {
    std::uint8_t byte[lanes * block];
  };
  struct Weights {
    std::int8_t byte[block];
  };

  static Sum set(std::int32_t value) {
    Sum sum;
    for (auto& lane : sum.lane) lane = static_cast<std::uint32_t>(value);
    return sum;
  }
  static Sum load_sums(const std::int32_t* from) {
    Sum sum;
    std::memcpy(sum.lane, from, sizeof sum.lane);
    return sum;
  }
  static Sum add(Sum a, const Sum& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] += b.lane[l];
    return a;
  }
  static void store(std::int32_t* to, const Sum& sum) { std::memcpy(to, sum.lane, sizeof sum.lane); }
  static Pixels load(const std::uint8_t* from) {
    Pixels pixels;
    std::memcpy(pixels.byte, from, sizeof pixels.byte);
    return pixels;
  }
  static Weights broadcast(std::uint32_t word) {
    Weights weights;
    std::memcpy(weights.byte, &word, sizeof weights.byte);
    return weights;
  }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, const Pixels& pixels, const Weights& weights) {
    for (int l = 0; l < lanes; ++l) {
      std::int32_t product = 0;
      for (int c = 0; c < block; ++c) product += pixels.byte[l * block + c] * weights.byte[c];
      sum.lane[l] += static_cast<std::uint32_t>(product);
    }
    return sum;
  }

  static std::uint8_t clamped(float steps, const Requantization& to) {
    const float shifted = steps + static_cast<float>(to.zero_point);
    return static_cast<std::uint8_t>(min_of(max_of(shifted, static_cast<float>(to.low)), static_cast<float>(to.high)));
  }

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& to, std::uint8_t* out) {
    for (int c = 0; c < block; ++c) {
      for (int p = 0; p < vectors * lanes; ++p) {
        out[p * block + c] = clamped(rounded(static_cast<float>(sums[c * stride + p]) * multipliers[c]), to);
      }
    }
  }

  struct Floats {
    float lane[lanes];
  };
  static Floats all(float value) { return {{value, value, value, value}}; }
  static Floats load_floats(const float* from) {
    Floats values;
    std::memcpy(values.lane, from, sizeof values.lane);
    return values;
  }
  static void store_floats(float* to, const Floats& values) { std::memcpy(to, values.lane, sizeof values.lane); }
  static Floats floats(const std::uint8_t* from) {
    Floats values;
    for (int l = 0; l < lanes; ++l) values.lane[l] = static_cast<float>(from[l]);
    return values;
  }
  static Floats plus(Floats a, const Floats& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] += b.lane[l];
    return a;
  }
  static Floats times(Floats a, const Floats& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] *= b.lane[l];
    return a;
  }
  static Floats fused(Floats sum, const Floats& a, const Floats& b) {
    for (int l = 0; l < lanes; ++l) sum.lane[l] = __builtin_fmaf(a.lane[l], b.lane[l], sum.lane[l]);
    return sum;
  }
  static Floats larger(Floats a, const Floats& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] = max_of(a.lane[l], b.lane[l]);
    return a;
  }
  static Floats smaller(Floats a, const Floats& b) {
    for (int l = 0; l < lanes; ++l) a.lane[l] = min_of(a.lane[l], b.lane[l]);
    return a;
  }
  static void store_rounded(const Floats& a, const Floats& b, const Floats& c, const Floats& d, const Requantization& to,
                            std::uint8_t* out) {
    for (const Floats* values : {&a, &b, &c, &d}) {
      for (const float value : values->lane) *out++ = clamped(rounded(value), to);
    }
  }

  struct Bytes {
    std::uint8_t byte[lanes * block];
  };
  static Bytes load_bytes(const std::uint8_t* from) {
    Bytes bytes;
    std::memcpy(bytes.byte, from, sizeof bytes.byte);
    return bytes;
  }
  static void store_bytes(std::uint8_t* to, const Bytes& bytes) { std::memcpy(to, bytes.byte, sizeof bytes.byte); }
  static Bytes same_pixels(std::uint32_t pixel) {
    Bytes bytes;
    for (int l = 0; l < lanes; ++l) std::memcpy(bytes.byte + l * block, &pixel, block);
    return bytes;
  }
  static Bytes control(std::uint32_t channels) { return same_pixels(channels); }
  static Bytes shuffled(const Bytes& bytes, const Bytes& control) {
    Bytes result;
    for (int b = 0; b < lanes * block; ++b) {
      const int channel = control.byte[b];
      result.byte[b] = channel < block ? bytes.byte[b / block * block + channel] : 0;
    }
    return result;
  }
  static Bytes either(Bytes a, const Bytes& b) {
    for (int i = 0; i < lanes * block; ++i) a.byte[i] |= b.byte[i];
    return a;
  }

  struct Table {
    const std::uint8_t* entries;
    explicit Table(const std::uint8_t* from) : entries(from) {}
    Bytes operator[](Bytes index) const {
      for (std::uint8_t& byte : index.byte) byte = entries[byte];
      return index;
    }
  };

  static void shift_pixels(const Shift& shift, const std::uint8_t* in, std::uint8_t* out) {
    for (std::int64_t plane = 0; plane < shift.planes; ++plane) {
      const std::uint8_t* from = in + plane * shift.in_pitch;
      std::uint8_t* to = out + plane * shift.out_pitch;
      for (std::int64_t p = 0; p < shift.vectors * max_lanes; ++p, to += block) {
        if ((shift.masks[p / max_lanes] >> (p % max_lanes) & 1) != 0) {
          std::memcpy(to, from + (p + shift.pixels) * block, block);
        } else {
          std::memset(to, shift.fill, block);
        }
      }
    }
  }

  static void stride_pixels(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out) {
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * block, in + step * i * block, block);
  }

  static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
    std::memset(out, fill, lanes * block);
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      for (int l = 0; l < lanes; ++l) {
        if ((pick->mask >> l & 1) == 0) continue;
        const int index = pick->index[l];
        const std::uint8_t* run = index < lanes ? in + pick->first : in + pick->second;
        std::memcpy(out + l * block, run + index % lanes * block, block);
      }
      if (!pick->last) continue;
      out += lanes * block;
      if (pick + 1 < picks + count) std::memset(out, fill, lanes * block);
    }
  }

  static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
    bool begins = true;
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      if (begins) std::memset(out, 0, lanes * block);
      for (int b = 0; b < lanes * block; ++b) {
        const int lane = b / block;
        if ((pick->mask >> lane & 1) == 0) continue;
        const int index = pick->index[lane];
        const std::uint8_t* run = index < lanes ? in + pick->first : in + pick->second;
        out[b] = max_of(out[b], run[index % lanes * block + b % block]);
      }
      begins = pick->last;
      if (pick->last) out += lanes * block;
    }
  }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    std::uint32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += static_cast<std::uint32_t>(a[i] * b[i]);
    return static_cast<std::int32_t>(sum);
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace plain

const Kernels& kernels_plain() {
  static const Kernels kernels = plain::all_kernels("plain");
  return kernels;
}

}  // namespace paretrim
