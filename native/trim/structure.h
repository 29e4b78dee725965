// Serialises a graph without the contents of its tensors. See SPEC.md, "Structure".
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace paretrim::trim {

std::vector<std::uint8_t> structure_bytes(const Graph& graph, std::uint64_t version);

// The graph, whose tensors have types and shapes but no bytes yet. Throws corrupt_file if the bytes are not a valid structure, or
// if the network would need another version.
Graph parse_structure(const std::uint8_t* data, std::size_t size, std::uint64_t version);

// Number of elements and size of a tensor, from its type and shape.
std::uint64_t elements_of(const Tensor& tensor);
std::uint64_t bytes_of(const Tensor& tensor);

}  // namespace paretrim::trim
