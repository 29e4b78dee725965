// Writes a .trim file. Equal networks give equal bytes, whatever the number of threads.
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

// The file, decoded again and compared before it is given back. The graph is one that `validate` or paretrim.graph.checks has
// seen. Throws corrupt_file where the graph is beyond the format's limits, or takes more than readers with this `limit` allow.
std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, int threads,
                                     std::uint64_t few_floats = trim::few_float_bytes,
                                     double limit = std::numeric_limits<double>::infinity());

}  // namespace paretrim
