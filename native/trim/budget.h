// How much a load may take, by the size of the file: SPEC.md, "Budget".
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

// Throws corrupt_file where the decoded bytes of a text are more than `times` what is usual.
void check_text(std::uint64_t decoded, std::uint64_t stored, double times);

// Throws corrupt_file where the graph of a file of so many bytes takes more than `times` what is usual.
void check_budget(const Graph& graph, std::uint64_t file_bytes, double times);

}  // namespace paretrim::trim
