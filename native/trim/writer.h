// Writes .trim files. The bytes depend only on the network, not on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "graph/graph.h"
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

// A record of weights and where in the file it probably lies. Records come in order, without gaps, from one thread at a time.
using PutRecord = std::function<void(std::uint64_t at, std::vector<std::uint8_t> record)>;

// All of the file before the records of weights. `place` is where the first of these was said to lie: if that is not the size of
// the front, which only the last record decides, all of them have to be moved.
struct TrimFront {
  std::vector<std::uint8_t> bytes;
  std::uint64_t place = 0;
};

// Codes a file, decodes it again and compares it with the graph, record by record. `validate` or paretrim.graph.checks must have
// accepted the graph. Throws corrupt_file if the graph exceeds the format's limits, or the budget of readers with this limit.
TrimFront write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings, const PutRecord& put);
std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings);

}  // namespace paretrim
