// Random graphs that cover every operation. They depend only on the seed, on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "tests/random.h"

namespace paretrim::test {

Graph random_graph(std::uint64_t seed);

// The same network computed in float32.
Graph random_float_graph(std::uint64_t seed);

// Random images, as the graph takes them.
std::vector<std::uint8_t> random_images(const Graph& graph, std::int64_t count, std::uint64_t seed);

}  // namespace paretrim::test
