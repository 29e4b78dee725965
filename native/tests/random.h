// Random numbers that depend only on the seed, on every machine.
#pragma once

#include <cstdint>

namespace paretrim::test {

// splitmix64. Distributions of the standard library differ between implementations.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    std::uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL;
    return mixed ^ (mixed >> 31);
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {  // inclusive
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  float real(float low, float high) { return low + (high - low) * (static_cast<float>(next() >> 40) / 16777216.0F); }

 private:
  std::uint64_t state_;
};

}  // namespace paretrim::test
