#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

// Versions of files: of one output, of several, and of any number where a float layer has weights that are not float32.
inline constexpr std::uint64_t one_output = 2, several_outputs = 3, stored_weights = 4;

// The version of the file that holds a graph: the first one that can.
std::uint64_t version_of(const Graph& graph);

}  // namespace paretrim::trim
