// Writes a .trim file. Equal networks give equal bytes, whatever the number of threads.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "trim/container.h"
#include "trim/weight_records.h"

namespace paretrim {

struct TrimMeta {
  std::string provenance;  // JSON in UTF-8, or empty
};

struct WriteSettings {
  int threads = 1;
  std::uint64_t few_floats = trim::few_float_bytes;
  double limit = std::numeric_limits<double>::infinity();  // of the readers that are to take the file
};

// The file, written into room that is asked for once, then decoded again and compared. The graph is one that `validate` or
// paretrim.graph.checks has seen. Throws corrupt_file where it is beyond the format's limits, or takes more than readers allow.
void write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings, const trim::FileRoom& room);
std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings);

}  // namespace paretrim
