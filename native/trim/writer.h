// Writes .trim files. The bytes depend only on the network, not on the number of threads.
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
  double limit = std::numeric_limits<double>::infinity();  // of the readers that must accept the file
  bool check_weights = true;  // whether to decode the weights again; false only if the reader that opens the file next does
};

// Writes the file to memory from `room`, which is called once, then decodes it again and compares it with the graph. `validate`
// or paretrim.graph.checks must have accepted the graph. Throws corrupt_file if the graph exceeds the format's limits, or the
// budget of readers with this limit.
void write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings, const trim::FileRoom& room);
std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings);

}  // namespace paretrim
