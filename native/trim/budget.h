// Limits on the memory and work of loading a file, by its size. See SPEC.md, "Budget".
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

// Throws corrupt_file if a text has more decoded bytes than `times` the budget for its stored bytes.
void check_text(std::uint64_t decoded, std::uint64_t stored, double times);

// Throws corrupt_file if the graph exceeds `times` the budget of a file of this size.
void check_budget(const Graph& graph, std::uint64_t file_bytes, double times);

}  // namespace paretrim::trim
