// File versions.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

inline constexpr std::uint64_t one_vector = 2;       // a single output, which is a vector
inline constexpr std::uint64_t any_outputs = 3;      // any outputs
inline constexpr std::uint64_t stored_weights = 4;   // float layers whose weights are not float32
inline constexpr std::uint64_t value_tables = 5;     // a record of weights has tables of values
inline constexpr std::uint64_t float_exponents = 6;  // a record of weights holds floats by exponents
inline constexpr std::uint64_t weight_groups = 7;    // a record of weights has integers in groups

// The earliest version that can hold the graph, not counting versions that records of weights need.
std::uint64_t version_of(const Graph& graph);

}  // namespace paretrim::trim
