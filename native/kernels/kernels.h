// What the planner may ask of an instruction set: a table of functions. Every instruction set gives the same integers.
//
// Activations lie in memory as [channels / 4][pixels][4] uint8: the four channels that one dot-product lane consumes are
// neighbours, and a vector register holds `lanes` pixels. A plane is one [pixels][4] slice.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/training.h"
#include "types/alignment.h"

namespace paretrim {

inline constexpr int block = 4;          // input channels of one dot product
inline constexpr int most_lanes = 16;    // of any instruction set
inline constexpr int most_vectors = 16;  // of one tile
inline constexpr int most_grouped = 16;  // output channels of one dense tile

// Format of packed weights. A tile reads one; another format is another value here, a way to pack it in plan/packing.cpp, and
// tiles.
enum class Element : std::uint8_t { int8, float32 };

// Weights of one surviving 1x4 block: the four int8 weights in the low half, the byte offset of its activations in the high half.
using Entry = std::uint64_t;

// An accumulator is busy for some cycles, so a tile with few vectors uses several sets of them. Lists of entries are best a
// multiple of that length.
constexpr int sets_of(int vectors) { return vectors >= 8 ? 1 : vectors >= 4 ? 2 : vectors >= 2 ? 4 : 8; }

// For `channels` output channels c one after the other:
// sums[(c * vectors + v) * lanes + l] = initial[c] + sum of dot(activations[offset + 4 * (v * lanes + l)], weights)
// over entries[starts[c]] .. entries[starts[c + 1]]. Without `initial`, on top of what `sums` holds.
using SparseTile = void (*)(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels,
                            const std::int32_t* initial, std::int32_t* sums);

// The same for `grouped` output channels that share their offsets. A record is the offset followed by one word of four weights
// for each channel.
using DenseTile = void (*)(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count,
                           const std::int32_t* initial, std::int32_t* sums);

// In float32 a plane is one channel and a pixel one number, so that what moves pixels of four bytes serves both. Tiles are of the
// same types: the word of an entry, `initial` and `sums` hold the bits of float32. To a sum is added number times weight, entry
// by entry in their order, each a fused multiply-add with one rounding: another order would
// be other bits.

// Outputs of one pixel, a whole number of most_lanes: sums[o] = initial[o], then entry by entry plus the number at `offsets[k]`
// times weights[k * outputs + o].
using RowTile = void (*)(const std::uint8_t* activations, const std::uint32_t* offsets, std::int64_t count, const float* weights,
                         const float* initial, float* sums);
inline constexpr int most_rows = 4;  // times most_lanes outputs

// From int32 sums to uint8: min(max(rint(f32(sum) * multiplier) + zero_point, low), high).
struct Requantization {
  std::int32_t zero_point = 0;
  std::int32_t low = 0;
  std::int32_t high = 255;
};

// out[4 * p + c] = requantized sums[c * stride + p] for c < 4 and p < vectors * lanes.
using Requantize = void (*)(const std::int32_t* sums, std::int64_t stride, int vectors, const float* multipliers,
                            const Requantization& to, std::uint8_t* out);

// add of docs/integer-graph.md: clamp(rint(f32(a) * first + (f32(b) * second + constant))).
struct Addition {
  float first = 0;
  float second = 0;
  float constant = 0;
  std::int32_t low = 0;
  std::int32_t high = 255;
};

struct Shift {
  std::int64_t planes = 1;
  std::int64_t in_pitch = 0;  // bytes
  std::int64_t out_pitch = 0;
  std::int64_t pixels = 0;   // how far
  std::int64_t vectors = 0;  // of most_lanes pixels, in one plane
  const std::uint16_t* masks = nullptr;
  std::uint8_t fill = 0;
};

// How pixels of one plane are put together from the channels of others, place by place. Byte c of a control names the channel of
// its source that becomes channel c, or is 0x80 for none; `constant` holds the bytes of channels that no source gives. The plane
// itself may be a source: that is how channels stay what they are.
struct Mix {
  int count = 0;
  const std::uint8_t* from[block] = {};
  std::uint32_t controls[block] = {};
  std::uint32_t constant = 0;
};

// How one register of pixels is put together from any places of a plane: index[l] picks a pixel of the two runs of `lanes` pixels
// that begin at bytes `first` and `second`. Bits of `known` say which lanes it fills; several picks may fill one register.
struct alignas(alignment) Pick {
  std::int32_t index[most_lanes] = {};
  std::int32_t first = 0;
  std::int32_t second = 0;
  std::uint16_t known = 0;
  bool last = true;  // of its register
};

struct Kernels {
  const char* name;
  int lanes;
  SparseTile sparse[most_vectors + 1];                  // of int8, by vectors of the tile; null where it has none
  DenseTile dense[most_grouped + 1][most_vectors + 1];  // by grouped channels, then vectors
  Requantize requantize;

  SparseTile float_sparse[most_vectors + 1];
  DenseTile float_dense[most_grouped + 1][most_vectors + 1];
  RowTile float_rows[most_rows + 1];  // by outputs in units of most_lanes
  // out[i] = min(max((sums[i] + 0) + other[i], low), high) + 0, for a whole number of registers; without `other` nothing is
  // added. Adding 0 leaves no negative zero.
  void (*finish_floats)(const float* sums, const float* other, std::int64_t count, float low, float high, float* out);

  // sum of a[i] * b[i] for i < count, a multiple of 64; both aligned.
  std::int32_t (*dot)(const std::uint8_t* a, const std::int8_t* b, std::int64_t count);
  // Of any count; `out` may be an operand.
  void (*add)(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by, std::uint8_t* out);
  // clamp(rint(f32((a - zero_a) * (b - zero_b)) * multiplier) + zero_point)
  void (*multiply)(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
                   float multiplier, const Requantization& to, std::uint8_t* out);
  // The same by one pixel: b[i % 4].
  void (*multiply_pixel)(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b,
                         std::int64_t count, float multiplier, const Requantization& to, std::uint8_t* out);
  // clamp(rint(f32(q - zero) * multiplier[i % 4] + offset[i % 4]) + zero_point)
  void (*affine)(const std::uint8_t* in, std::int32_t zero, std::int64_t count, const float* multiplier, const float* offset,
                 const Requantization& to, std::uint8_t* out);
  void (*maximum)(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, std::uint8_t* out);
  // out[i] = table[in[i]] of 256; `out` may be `in`.
  void (*look_up)(const std::uint8_t* in, std::int64_t count, const std::uint8_t* table, std::uint8_t* out);
  // Whole registers are read and written: as many pixels as the pitch of a plane has room for.
  void (*mix_pixels)(const Mix& mix, std::int64_t pixels, std::uint8_t* out);
  // out[4 * p + c] = channels[c * pitch + p]
  void (*interleave)(const std::uint8_t* channels, std::int64_t pitch, std::int64_t pixels, std::uint8_t* out);
  // out[i] = in[step * i] on pixels of four bytes
  void (*stride_pixels)(const std::uint8_t* in, std::int64_t count, std::int64_t step, std::uint8_t* out);
  // Plane by plane, pixels of four bytes: out[16 * v + l] = in[16 * v + l + shift] where bit l of masks[v] is set, else `fill` in
  // every byte. What is masked out is never read.
  void (*shift_pixels)(const Shift& shift, const std::uint8_t* in, std::uint8_t* out);
  // Registers one after the other; lanes that no pick fills hold `fill` in every byte.
  void (*pick_pixels)(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t fill, std::uint8_t* out);
  // The same, but what several picks say of one lane is their maximum; 0 where none does.
  void (*pick_maximum)(const Pick* picks, std::int64_t count, const std::uint8_t* in, std::uint8_t* out);

  TrainingKernels training;
};

const Kernels& kernels_plain();
const Kernels& kernels_avx2();
const Kernels& kernels_avx_vnni();
const Kernels& kernels_avx512_vnni();
const Kernels& kernels_avx512_vnni_vbmi();  // the same, with tables looked up in registers
const Kernels& kernels_neon_dot();

}  // namespace paretrim
