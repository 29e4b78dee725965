// What a plan is made of: steps that read and write numbered buffers. A step is cut into parts that may run in any order and on
// any thread; between two steps all threads wait for each other. Sums are integers, so the cut changes no bit of the result.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

using Buffer = std::int32_t;
inline constexpr Buffer images_buffer = 0;  // the caller's input
inline constexpr Buffer logits_buffer = 1;  // the caller's output

// Where the buffers of one running call lie.
struct Memory {
  const std::uint8_t* images = nullptr;
  float* logits = nullptr;
  std::uint8_t* arena = nullptr;
  const std::int64_t* offsets = nullptr;  // by buffer, into the arena

  std::uint8_t* at(Buffer buffer) const { return arena + offsets[buffer]; }
};

// What one thread needs beside the buffers.
struct alignas(alignment) Scratch {
  std::int32_t sums[most_grouped * most_vectors * most_lanes];
  std::uint8_t bytes[most_vectors * most_lanes * block];
  std::uint8_t copies[64 * 1024];  // of one tile, where a convolution makes them tile by tile
};

class Step {
 public:
  virtual ~Step() = default;
  virtual std::int64_t parts() const = 0;
  virtual void run(std::int64_t part, const Memory& memory, Scratch& scratch) const = 0;

  std::vector<Buffer> reads;
  std::vector<Buffer> writes;
  std::size_t layer = 0;  // which LayerReport its time belongs to
};

}  // namespace paretrim
