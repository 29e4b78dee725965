// The kernels of one instruction set, as a table of function pointers. All instruction sets give bit-identical results.
//
// Activations are stored as [channels / 4][pixels][4] uint8, so that the four channels of one dot product are adjacent. A vector
// register holds `lanes` pixels. A plane is one [pixels][4] slice.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/training.h"
#include "types/alignment.h"

namespace paretrim {

inline constexpr int block = 4;         // input channels per dot product
inline constexpr int max_lanes = 16;    // over all instruction sets
inline constexpr int max_vectors = 16;  // per tile
inline constexpr int max_grouped = 16;  // output channels per dense tile

// Element type of packed weights. To add one: a value here, its packing in plan/packing.cpp, and its tiles.
enum class Element : std::uint8_t { int8, float32 };

// One nonzero 1x4 block: four int8 weights in the low half, the byte offset of its activations in the high half.
using Entry = std::uint64_t;

// Number of accumulator sets. Dot products have a latency of several cycles, so a tile with few vectors needs several independent
// sets to hide it. Lists of entries run best if their length is a multiple of this number.
constexpr int sets_of(int vectors) { return vectors >= 8 ? 1 : vectors >= 4 ? 2 : vectors >= 2 ? 4 : 8; }

// For each output channel c < channels:
// sums[(c * vectors + v) * lanes + l] = initial[c] + sum of dot(activations[offset + 4 * (v * lanes + l)], weights)
// over the entries in [starts[c], starts[c + 1]). If `initial` is null, adds to the values in `sums`.
using SparseTile = void (*)(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels,
                            const std::int32_t* initial, std::int32_t* sums);

// The same for a group of output channels that share their offsets. A record is an offset, then one word of four weights for each
// channel of the group.
using DenseTile = void (*)(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count,
                           const std::int32_t* initial, std::int32_t* sums);

// In float32, a plane is one channel and a pixel is one float, so the kernels that move 4-byte pixels serve both types. Float
// tiles have the same signatures: entry words, `initial` and `sums` hold the bits of float32. Each sum accumulates its entries in
// order, one fused multiply-add with a single rounding per entry. Another order would give other bits.

// Outputs of one pixel; their number is a multiple of max_lanes. sums[o] starts at initial[o]; entry k in turn adds the float at
// offsets[k] times weights[k * outputs + o].
using RowTile = void (*)(const std::uint8_t* activations, const std::uint32_t* offsets, std::int64_t count, const float* weights,
                         const float* initial, float* sums);
inline constexpr int max_rows = 4;  // in units of max_lanes outputs

// Requantization of int32 sums to uint8: min(max(rint(f32(sum) * multiplier) + zero_point, low), high).
struct Requantization {
  std::int32_t zero_point = 0;
  std::int32_t low = 0;
  std::int32_t high = 255;
};

// out[4 * p + c] = requantize(sums[c * stride + p]) for c < 4 and p < vectors * lanes.
using Requantize = void (*)(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                            const Requantization& to, std::uint8_t* out);

// The add operation of docs/integer-graph.md: clamp(rint(f32(a) * first + (f32(b) * second + constant))).
struct Addition {
  float first = 0;
  float second = 0;
  float constant = 0;
  std::int32_t low = 0;
  std::int32_t high = 255;
};

// Arguments of shift_pixels.
struct Shift {
  std::int64_t planes = 1;
  std::int64_t in_pitch = 0;   // bytes
  std::int64_t out_pitch = 0;  // bytes
  std::int64_t pixels = 0;     // distance
  std::int64_t vectors = 0;    // of max_lanes pixels, per plane
  const std::uint16_t* masks = nullptr;
  std::uint8_t fill = 0;
};

// How to assemble the pixels of one plane from the channels of source planes, position by position. Byte c of a source's control
// is the channel of that source that becomes channel c, or 0x80 for none. `constant` holds the bytes of channels that come from
// no source. The output plane may itself be a source, for the channels that stay.
struct Mix {
  int count = 0;
  const std::uint8_t* from[block] = {};
  std::uint32_t controls[block] = {};
  std::uint32_t constant = 0;
};

// How to gather pixels of a plane into one register: index[l] selects a pixel from two runs of `lanes` pixels that begin at bytes
// `first` and `second`. Bit l of `mask` is set if lane l is filled. Several picks may fill one register.
struct alignas(alignment) Pick {
  std::int32_t index[max_lanes] = {};
  std::int32_t first = 0;
  std::int32_t second = 0;
  std::uint16_t mask = 0;
  bool last = true;  // of its register
};

struct Kernels {
  const char* name;
  int lanes;
  bool pairs_in_16_bits;                              // int8 tiles need words of pairs.h: they add pairs of products in 16 bits
  SparseTile sparse[max_vectors + 1];                 // int8, by vectors per tile; null if there is no such tile
  DenseTile dense[max_grouped + 1][max_vectors + 1];  // int8, by channels per group, then vectors
  Requantize requantize;

  SparseTile float_sparse[max_vectors + 1];
  DenseTile float_dense[max_grouped + 1][max_vectors + 1];
  RowTile float_rows[max_rows + 1];  // by outputs in units of max_lanes
  // out[i] = min(max((sums[i] + 0) + other[i], low), high) + 0; `count` is a multiple of `lanes`, `other` may be null. Adding 0
  // turns -0 into +0.
  void (*finish_floats)(const float* sums, const float* other, std::int64_t count, float low, float high, float* out);

  // Sum of a[i] * b[i] for i < count. `count` is a multiple of 64; both pointers are aligned.
  std::int32_t (*dot)(const std::uint8_t* a, const std::int8_t* b, std::int64_t count);
  // `count` is arbitrary here and below; `out` may be one of the operands.
  void (*add)(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by, std::uint8_t* out);
  // clamp(rint(f32((a - zero_a) * (b - zero_b)) * multiplier) + zero_point)
  void (*multiply)(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
                   float multiplier, const Requantization& to, std::uint8_t* out);
  // The same with b[i % 4]: `b` is a single pixel.
  void (*multiply_pixel)(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b,
                         std::int64_t count, float multiplier, const Requantization& to, std::uint8_t* out);
  // clamp(rint(f32(q - zero) * multiplier[i % 4] + offset[i % 4]) + zero_point)
  void (*affine)(const std::uint8_t* in, std::int32_t zero, std::int64_t count, const float* multiplier, const float* offset,
                 const Requantization& to, std::uint8_t* out);
  void (*maximum)(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, std::uint8_t* out);
  // out[i] = table[in[i]], 256 entries; `out` may be `in`.
  void (*look_up)(const std::uint8_t* in, std::int64_t count, const std::uint8_t* table, std::uint8_t* out);
  // Reads and writes whole registers, so planes must be padded to a multiple of the register.
  void (*mix_pixels)(const Mix& mix, std::int64_t pixels, std::uint8_t* out);
  // out[4 * p + c] = channels[c * pitch + p]
  void (*interleave)(const std::uint8_t* channels, std::int64_t pitch, std::int64_t pixels, std::uint8_t* out);
  // out[i] = in[step * i], in 4-byte pixels.
  void (*stride_pixels)(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out);
  // For each plane, in 4-byte pixels: out[16 * v + l] = in[16 * v + l + shift.pixels] if bit l of masks[v] is set, otherwise
  // `fill` in every byte. Masked-out pixels are never read.
  void (*shift_pixels)(const Shift& shift, const std::uint8_t* in, std::uint8_t* out);
  // Gathers one register after another. A lane that no pick fills gets `fill` in every byte.
  void (*pick_pixels)(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out);
  // The same, but several picks for one lane give their maximum, and none gives 0.
  void (*pick_maximum)(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out);

  TrainingKernels training;
};

const Kernels& kernels_plain();
const Kernels& kernels_avx2();
const Kernels& kernels_avx_vnni();
const Kernels& kernels_avx512_vnni();
const Kernels& kernels_avx512_vnni_vbmi();  // the same, except that lookup tables stay in registers
const Kernels& kernels_neon_dot();

}  // namespace paretrim
