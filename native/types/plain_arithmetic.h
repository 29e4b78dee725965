// The float arithmetic that results are defined in, whatever the program has set for its own: results are rounded to the nearest
// float and subnormal numbers are kept. A library that was compiled with -ffast-math flushes them to zero in the whole thread.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace paretrim {

class PlainArithmetic {
 public:
  PlainArithmetic() : before_(get()) {
    if (changed()) set((before_ & ~control) | plain);
  }
  ~PlainArithmetic() {
    if (changed()) set(before_);
  }
  PlainArithmetic(const PlainArithmetic&) = delete;
  PlainArithmetic& operator=(const PlainArithmetic&) = delete;

 private:
  bool changed() const { return (before_ & control) != plain; }

#if defined(__x86_64__)
  static constexpr std::uint64_t control = 0xFFC0, plain = 0x1F80;  // exceptions stay silent
  static std::uint64_t get() { return _mm_getcsr(); }
  static void set(std::uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
  static constexpr std::uint64_t control = ~std::uint64_t{0}, plain = 0;
  static std::uint64_t get() {
    std::uint64_t value = 0;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(std::uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
  static constexpr std::uint64_t control = 0, plain = 0;
  static std::uint64_t get() { return 0; }
  static void set(std::uint64_t) {}
#endif

  std::uint64_t before_;
};

}  // namespace paretrim
