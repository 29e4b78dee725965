// Buffers for testing one kernel: inputs with nothing readable behind them, and outputs between guard bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "tests/random.h"
#include "types/alignment.h"

namespace paretrim::test {

// Aligned to a cache line and allocated to the exact size, so that AddressSanitizer sees reads past the end. Filled with random
// values.
template <typename T>
class Input {
 public:
  Input(std::int64_t count, Random& random) {
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * sizeof(T)) != 0)
      std::abort();
    data_.reset(static_cast<T*>(memory));
    for (std::int64_t i = 0; i < count; ++i) data_.get()[i] = static_cast<T>(random.next());
  }
  T* data() { return data_.get(); }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T, Free> data_;
};

// A buffer for the kernel and one for the reference, with the same initial content.
template <typename T>
class Output {
 public:
  Output(std::int64_t count, Random& random)
      : count_(count), found_(count + 2 * around, random), expected_(count + 2 * around, random) {
    std::copy_n(found_.data(), count + 2 * around, expected_.data());
  }

  T* found() { return found_.data() + around; }
  T* expected() { return expected_.data() + around; }

  // The first difference as text, or "" if there is none. Values from `wanted` up to `count` are ignored: the kernel may write
  // anything there.
  std::string difference(std::int64_t wanted) {
    for (std::int64_t i = -around; i < count_ + around; ++i) {
      if ((i >= wanted && i < count_) || std::memcmp(found() + i, expected() + i, sizeof(T)) == 0) continue;
      return std::string(i < 0 || i >= count_ ? "written outside: " : "") + "value " + std::to_string(i) + " of " +
             std::to_string(count_) + " is " + std::to_string(found()[i]) + ", expected " + std::to_string(expected()[i]);
    }
    return "";
  }
  std::string difference() { return difference(count_); }

 private:
  static constexpr std::int64_t around = alignment;  // guard values on each side; keeps the values between them aligned

  std::int64_t count_;
  Input<T> found_;
  Input<T> expected_;
};

}  // namespace paretrim::test
