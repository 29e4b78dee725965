// What a plan is made of: steps that read and write numbered buffers. A step is cut into parts that may run in any order and on
// any thread; between two steps all threads wait for each other. A sum is never cut, so the cut changes no bit of the result.
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
inline constexpr Buffer first_output_buffer = 1;  // the caller's outputs, one after the other; then those of the arena

// The caller's memory for the outputs of several images: of each output the values of all images, one image behind the other.
struct Outputs {
  float* const* starts = nullptr;       // by output
  const std::int64_t* sizes = nullptr;  // by output: of one image
  Buffer count = 0;
};

// Where the buffers of one running call lie.
struct Memory {
  const std::uint8_t* images = nullptr;
  Outputs outputs;
  std::int64_t image = 0;  // which of the outputs' images this is
  std::uint8_t* arena = nullptr;
  const std::int64_t* offsets = nullptr;  // by buffer, into the arena

  std::uint8_t* at(Buffer buffer) const { return arena + offsets[buffer]; }

  // A float32 value, wherever it lies. A caller's memory has no padding after its last number.
  float* floats_at(Buffer buffer) const {
    const Buffer output = buffer - first_output_buffer;
    if (output < 0 || output >= outputs.count) return reinterpret_cast<float*>(at(buffer));
    return outputs.starts[output] + image * outputs.sizes[output];
  }
};

// Scratch of one thread.
struct alignas(alignment) Scratch {
  std::int32_t sums[most_grouped * most_vectors * most_lanes];
  std::uint8_t bytes[most_vectors * most_lanes * block];
  // A convolution's shifted copies of its input, as large as the step asks for, shared by all parts that use the same ones.
  std::uint8_t* copies = nullptr;
  const void* copied_for = nullptr;  // the step, or none
  std::int64_t copied_slice = 0;
  std::int64_t copied_band = 0;

  void begin_call() { copied_for = nullptr; }
};

// Scratch and the room for its copies, of several threads.
class Scratches {
 public:
  Scratches(int threads, std::int64_t copies_bytes)
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

// The buffers of a step. What it reads is known only at run time; constants, as weights, are the step's own.
struct Operands {
  std::vector<Buffer> inputs;  // in the order of the operation; then that of what is fused to it
  Buffer output = 0;
};

class Step {
 public:
  virtual ~Step() = default;
  // Neighbouring parts have the most in common; a thread gets a run of them.
  virtual std::int64_t parts() const = 0;
  virtual void run(std::int64_t part, const Memory& memory, Scratch& scratch) const = 0;

  std::vector<Buffer> reads;
  std::vector<Buffer> writes;
  std::size_t layer = 0;  // which LayerReport its time belongs to
};

using Steps = std::vector<std::unique_ptr<Step>>;

}  // namespace paretrim
