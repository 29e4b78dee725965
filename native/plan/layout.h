// Memory layout of values. A uint8 value [C, H, W] or [F] is stored in planes of four channels: [ceil(C / 4)][pixels][4]. A value
// of one pixel is a plain array of channels, so vectors and 1x1 maps have the same layout. Padding channels up to the next
// multiple of four have arbitrary contents; their weights are zero.
//
// A float32 value is stored like a uint8 value with four times the channels: [C][pixels] floats, one channel per plane.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "kernels/kernels.h"

namespace paretrim {

inline std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Bytes from one plane to the next: whole cache lines, so that every plane is aligned, but never a multiple of 16 lines, because
// planes a multiple of 1024 bytes apart compete for a few sets of the L1 cache (measured: half the speed at 4096).
inline std::int64_t plane_pitch(std::int64_t pixels) {
  if (pixels == 1) return block;
  std::int64_t lines = rounded_up(pixels * block, alignment) / static_cast<std::int64_t>(alignment);
  if (lines % 16 == 0) ++lines;
  return lines * static_cast<std::int64_t>(alignment);
}

// Kernels may read up to this many bytes past the last pixel of a buffer; they ignore what they read there.
inline constexpr std::int64_t slack = max_lanes * block * max_vectors;

// Values per pixel of a plane: four uint8 channels, or one float32 channel.
template <typename Value>
constexpr std::int64_t values_per_pixel = block / static_cast<std::int64_t>(sizeof(Value));

struct Layout {
  std::int64_t channels = 1;
  std::int64_t height = 1;
  std::int64_t width = 1;

  static Layout of(const std::vector<std::int64_t>& shape) {
    return shape.size() == 3 ? Layout{shape[0], shape[1], shape[2]} : Layout{shape[0], 1, 1};
  }
  static Layout of(const ValueType& type) {
    Layout layout = of(type.shape);
    if (!type.quantized()) layout.channels *= block;
    return layout;
  }
  std::int64_t pixels() const { return height * width; }
  std::int64_t blocks() const { return (channels + block - 1) / block; }
  std::int64_t pitch() const { return plane_pitch(pixels()); }
  std::int64_t bytes() const { return rounded_up(blocks() * pitch(), alignment) + slack; }
  std::int64_t at(std::int64_t channel, std::int64_t pixel) const {
    return channel / block * pitch() + pixel * block + channel % block;
  }
};

}  // namespace paretrim
