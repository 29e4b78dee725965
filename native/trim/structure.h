// Everything of a graph but the contents of its tensors, as bytes; see SPEC.md, "Structure".
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace paretrim::trim {

// For a file of this version.
std::vector<std::uint8_t> structure_bytes(const Graph& graph, std::uint64_t version);

// A graph whose tensors have their type and shape and no bytes yet, from a file of this version. Throws corrupt_file where the
// bytes are no structure, or one of an earlier version.
Graph parse_structure(const std::uint8_t* data, std::size_t size, std::uint64_t version);

// Elements of a tensor, and the bytes that it takes.
std::uint64_t elements_of(const Tensor& tensor);
std::uint64_t bytes_of(const Tensor& tensor);

}  // namespace paretrim::trim
