// Steps: the units of a plan. They read and write numbered buffers. A step is split into parts that may run in any order on any
// thread; between steps, all threads synchronise. A sum is never split, so the split does not change any bit of the result.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "types/aligned.h"

namespace paretrim {

using Buffer = std::int32_t;
inline constexpr Buffer images_buffer = 0;        // the caller's input
inline constexpr Buffer first_output_buffer = 1;  // the caller's outputs; buffers of the arena come after them

// The caller's memory for the outputs. Each output holds all images of the call, one after another.
struct Outputs {
  float* const* starts = nullptr;       // by output
  const std::int64_t* sizes = nullptr;  // by output: elements for one image
  Buffer count = 0;
};

// Addresses of the buffers of one call.
struct Memory {
  const std::uint8_t* images = nullptr;
  Outputs outputs;
  std::int64_t image = 0;  // index of this image in the outputs
  std::uint8_t* arena = nullptr;
  const std::int64_t* offsets = nullptr;  // by buffer, into the arena

  // A value, in the arena or in the caller's memory. The latter has no padding after its last element.
  std::uint8_t* at(Buffer buffer) const {
    const Buffer output = buffer - first_output_buffer;
    if (output < 0 || output >= outputs.count) return arena + offsets[buffer];
    return reinterpret_cast<std::uint8_t*>(outputs.starts[output] + image * outputs.sizes[output]);
  }

  // The same of a float32 value.
  float* floats_at(Buffer buffer) const { return reinterpret_cast<float*>(at(buffer)); }
};

// Scratch of one thread.
struct alignas(alignment) Scratch {
  std::int32_t sums[max_grouped * max_vectors * max_lanes];
  std::uint8_t bytes[max_vectors * max_lanes * block];
  // Shifted copies of a convolution's input. Parts that need the same copies reuse them.
  std::uint8_t* copies = nullptr;
  const void* copied_for = nullptr;  // the step that made the copies, or null
  std::int64_t copied_slice = 0;
  std::int64_t copied_band = 0;

  void begin_call() { copied_for = nullptr; }
};

// Scratch for several threads, with memory for the copies.
class ScratchSet {
 public:
  ScratchSet(int threads, std::int64_t copies_bytes)
      : scratch_(static_cast<std::size_t>(threads)),
        pitch_(copies_bytes),
        copies_(static_cast<std::size_t>(threads * copies_bytes)) {
    for (int t = 0; t < threads; ++t) at(t).copies = copies_.data() + t * pitch_;
  }
  Scratch& at(int thread) { return scratch_.data()[thread]; }

 private:
  AlignedArray<Scratch> scratch_;
  std::int64_t pitch_;
  AlignedArray<std::uint8_t> copies_;
};

// The buffers of a step. Constants such as weights belong to the step itself.
struct Operands {
  std::vector<Buffer> inputs;  // the operation's, in order, then those of fused operations
  Buffer output = 0;
};

class Step {
 public:
  virtual ~Step() = default;
  // Threads get contiguous ranges of parts, so parts that share data should be neighbours.
  virtual std::int64_t parts() const = 0;
  virtual void run(std::int64_t part, const Memory& memory, Scratch& scratch) const = 0;

  std::vector<Buffer> reads;
  std::vector<Buffer> writes;
  std::size_t layer = 0;  // index of its LayerReport
};

using Steps = std::vector<std::unique_ptr<Step>>;

}  // namespace paretrim
