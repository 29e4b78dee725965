// Random integer graphs with every operation of the page: the same on every machine for the same seed.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace paretrim::test {

// splitmix64; the standard library's distributions differ from one library to the next.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::int64_t between(std::int64_t low, std::int64_t high) {  // both included
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  float real(float low, float high) { return low + (high - low) * (static_cast<float>(next() >> 40) / 16777216.0F); }

 private:
  std::uint64_t state_;
};

Graph random_graph(std::uint64_t seed);

// Bytes of images as the graph takes them.
std::vector<std::uint8_t> random_images(const Graph& graph, std::int64_t count, std::uint64_t seed);

}  // namespace paretrim::test
