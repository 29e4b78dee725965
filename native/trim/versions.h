#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

// Versions of files: of one output that is a vector, of any outputs, of any outputs where a float layer has weights that are not
// float32, of any network where a record of weights has tables of values, and of any where one holds floats by their exponents.
inline constexpr std::uint64_t one_vector = 2, any_outputs = 3, stored_weights = 4, value_tables = 5, float_exponents = 6;

// The version of the file that holds a graph, if its records of weights need no later one: the first one that can.
std::uint64_t version_of(const Graph& graph);

}  // namespace paretrim::trim
