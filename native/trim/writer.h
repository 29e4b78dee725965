// Writes .trim files. The bytes depend only on the network, not on the number of threads.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "trim/weight_records.h"

namespace paretrim {

struct TrimMeta {
  std::string provenance;  // JSON in UTF-8, or empty
};

// Returns the file, after decoding it again and comparing it with the graph. `validate` or paretrim.graph.checks must have
// accepted the graph. Throws corrupt_file if the graph exceeds the format's limits, or the budget of readers with this `limit`.
std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, int threads,
                                     std::uint64_t few_floats = trim::few_float_bytes,
                                     double limit = std::numeric_limits<double>::infinity());

}  // namespace paretrim
