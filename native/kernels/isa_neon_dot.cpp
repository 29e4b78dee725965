// 64-bit Arm with the Armv8.2 dot product: one sdot processes 4 pixels of four channels.
//
// sdot multiplies signed by signed. Activations q are therefore loaded as q - 128, by flipping their top bit, and each dot
// product adds the correction: 128 times the sum of the four weights.
#include <arm_neon.h>

#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace paretrim {
namespace neon_dot {
namespace {

#include "kernels/scalar.inl"

struct V {
  static constexpr int lanes = 4;
  static constexpr int registers = 32;
  static constexpr bool pairs_in_16_bits = false;
  using Sum = int32x4_t;
  using Pixels = int8x16_t;
  struct Weights {
    int8x16_t all;
    int32x4_t correction;
  };

  static Sum set(std::int32_t value) { return vdupq_n_s32(value); }
  static Sum load_sums(const std::int32_t* from) { return vld1q_s32(from); }
  static Sum add(Sum a, Sum b) { return vaddq_s32(a, b); }
  static void store(std::int32_t* to, Sum sum) { vst1q_s32(to, sum); }
  static Pixels load(const std::uint8_t* from) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(0x80))); }
  static Weights broadcast(std::uint32_t word) {
    const int8x16_t all = vreinterpretq_s8_u32(vdupq_n_u32(word));
    const int32x4_t sums = vdotq_s32(vdupq_n_s32(0), all, vdupq_n_s8(64));
    return {all, vaddq_s32(sums, sums)};
  }
  static Weights broadcast_from(const std::uint32_t* word) { return broadcast(*word); }
  static Sum dot(Sum sum, Pixels pixels, const Weights& weights) {
    return vdotq_s32(vaddq_s32(sum, weights.correction), pixels, weights.all);
  }

  static std::int32_t dot_product(const std::uint8_t* a, const std::int8_t* b, std::int64_t count) {
    int32x4_t sum = vdupq_n_s32(0);
    int32x4_t weights = vdupq_n_s32(0);
    for (std::int64_t i = 0; i < count; i += 16) {
      const int8x16_t from_b = vld1q_s8(b + i);
      sum = vdotq_s32(sum, load(a + i), from_b);
      weights = vdotq_s32(weights, from_b, vdupq_n_s8(64));
    }
    return vaddvq_s32(vaddq_s32(sum, vaddq_s32(weights, weights)));
  }

  static uint8x16_t clamped(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const Requantization& to) {
    // Narrowing saturates at int16; the result is clamped anyway.
    const int16x8_t zero_point = vdupq_n_s16(static_cast<std::int16_t>(to.zero_point));
    const int16x8_t first = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero_point);
    const int16x8_t second = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero_point);
    const uint8x16_t bytes = vcombine_u8(vqmovun_s16(first), vqmovun_s16(second));
    const uint8x16_t low = vdupq_n_u8(static_cast<std::uint8_t>(to.low));
    return vminq_u8(vmaxq_u8(bytes, low), vdupq_n_u8(static_cast<std::uint8_t>(to.high)));
  }

  static void requantize(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                         const Requantization& to, std::uint8_t* out) {
    const std::uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const uint8x16_t interleave = vld1q_u8(order);
    for (int v = 0; v < vectors; ++v) {
      int32x4_t steps[block];
      for (int c = 0; c < block; ++c) {
        const float32x4_t sum = vcvtq_f32_s32(vld1q_s32(sums + c * stride + v * lanes));
        steps[c] = vcvtnq_s32_f32(vmulq_n_f32(sum, multipliers[c]));  // to nearest, ties to even; saturates
      }
      const uint8x16_t bytes = clamped(steps[0], steps[1], steps[2], steps[3], to);
      vst1q_u8(out + v * lanes * block, vqtbl1q_u8(bytes, interleave));
    }
  }

  using Floats = float32x4_t;
  static Floats all(float value) { return vdupq_n_f32(value); }
  static Floats load_floats(const float* from) { return vld1q_f32(from); }
  static Floats floats(const std::uint8_t* from) {
    const float values[lanes] = {static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]),
                                 static_cast<float>(from[3])};
    return vld1q_f32(values);
  }
  static Floats plus(Floats a, Floats b) { return vaddq_f32(a, b); }
  static Floats times(Floats a, Floats b) { return vmulq_f32(a, b); }
  static Floats fused(Floats sum, Floats a, Floats b) { return vfmaq_f32(sum, a, b); }
  static Floats larger(Floats a, Floats b) { return vmaxq_f32(a, b); }
  static Floats smaller(Floats a, Floats b) { return vminq_f32(a, b); }
  static void store_floats(float* to, Floats values) { vst1q_f32(to, values); }
  static void store_rounded(Floats a, Floats b, Floats c, Floats d, const Requantization& to, std::uint8_t* out) {
    vst1q_u8(out, clamped(vcvtnq_s32_f32(a), vcvtnq_s32_f32(b), vcvtnq_s32_f32(c), vcvtnq_s32_f32(d), to));
  }

  using Bytes = uint8x16_t;
  static Bytes load_bytes(const std::uint8_t* from) { return vld1q_u8(from); }
  static void store_bytes(std::uint8_t* to, Bytes bytes) { vst1q_u8(to, bytes); }
  static Bytes same_pixels(std::uint32_t pixel) { return vreinterpretq_u8_u32(vdupq_n_u32(pixel)); }
  static Bytes control(std::uint32_t channels) {
    const std::uint32_t pixels[lanes] = {0, 0x04040404, 0x08080808, 0x0C0C0C0C};
    return vaddq_u8(same_pixels(channels), vreinterpretq_u8_u32(vld1q_u32(pixels)));
  }
  static Bytes shuffled(Bytes bytes, Bytes control) { return vqtbl1q_u8(bytes, control); }
  static Bytes either(Bytes a, Bytes b) { return vorrq_u8(a, b); }

  struct Table {
    uint8x16x4_t quarters[4];
    explicit Table(const std::uint8_t* entries) {
      for (int q = 0; q < 4; ++q) quarters[q] = vld1q_u8_x4(entries + 64 * q);
    }
    Bytes operator[](Bytes index) const {
      Bytes found = vqtbl4q_u8(quarters[0], index);
      // vqtbx4q leaves a byte unchanged if its index is outside the quarter.
      for (std::uint8_t q = 1; q < 4; ++q) found = vqtbx4q_u8(found, quarters[q], vsubq_u8(index, vdupq_n_u8(64 * q)));
      return found;
    }
  };

  static void shift_pixels(const Shift& shift, const std::uint8_t* in, std::uint8_t* out) {
    in += shift.pixels * block;
    for (std::int64_t plane = 0; plane < shift.planes; ++plane, in += shift.in_pitch, out += shift.out_pitch) {
      for (std::int64_t group = 0; group < shift.vectors; ++group) {
        const std::uint16_t mask = shift.masks[group];
        const std::uint8_t* from = in + group * max_lanes * block;
        std::uint8_t* to = out + group * max_lanes * block;
        if (mask == 0xFFFF) {
          std::memcpy(to, from, max_lanes * block);
          continue;
        }
        std::memset(to, shift.fill, max_lanes * block);
        for (int p = 0; p < max_lanes; ++p) {  // masked-out pixels may not be readable
          if ((mask >> p & 1) != 0) std::memcpy(to + p * block, from + p * block, block);
        }
      }
    }
  }

  static uint8x16_t picked(const Pick& pick, const std::uint8_t* in) {
    // Bytes 4 * index .. 4 * index + 3 of the two runs joined.
    const uint32x4_t index = vreinterpretq_u32_s32(vld1q_s32(pick.index));
    const uint32x4_t places = vaddq_u32(vmulq_n_u32(index, 0x04040404U), vdupq_n_u32(0x03020100U));
    const uint8x16x2_t runs = {{vld1q_u8(in + pick.first), vld1q_u8(in + pick.second)}};
    return vqtbl2q_u8(runs, vreinterpretq_u8_u32(places));
  }

  static uint8x16_t filled_lanes(const Pick& pick) {
    const std::uint32_t lane_bits[lanes] = {1, 2, 4, 8};
    return vreinterpretq_u8_u32(vtstq_u32(vdupq_n_u32(pick.mask), vld1q_u32(lane_bits)));
  }

  static void pick_pixels(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out) {
    const uint8x16_t filled = vdupq_n_u8(fill);
    uint8x16_t pixels = filled;
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      pixels = vbslq_u8(filled_lanes(*pick), picked(*pick, in), pixels);
      if (!pick->last) continue;
      vst1q_u8(out, pixels);
      pixels = filled;
      out += lanes * block;
    }
  }

  static void pick_maximum(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out) {
    uint8x16_t pixels = vdupq_n_u8(0);
    for (const Pick* pick = picks; pick < picks + count; ++pick) {
      pixels = vmaxq_u8(pixels, vandq_u8(filled_lanes(*pick), picked(*pick, in)));
      if (!pick->last) continue;
      vst1q_u8(out, pixels);
      pixels = vdupq_n_u8(0);
      out += lanes * block;
    }
  }

  static void stride_pixels(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out) {
    std::int64_t i = 0;
    if (step == 2) {
      for (; i + lanes < count; i += lanes) {  // not `<=`: the loads reach one pixel beyond the last one needed
        const uint32x4x2_t pairs = vld2q_u32(reinterpret_cast<const std::uint32_t*>(in + 2 * i * block));
        vst1q_u32(reinterpret_cast<std::uint32_t*>(out + i * block), pairs.val[0]);
      }
    }
    for (; i < count; ++i) std::memcpy(out + i * block, in + step * i * block, block);
  }
};

#include "kernels/tiles.inl"

}  // namespace
}  // namespace neon_dot

const Kernels& kernels_neon_dot() {
  static const Kernels kernels = neon_dot::all_kernels("neon_dot");
  return kernels;
}

}  // namespace paretrim
