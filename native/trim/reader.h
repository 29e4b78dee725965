// Reads .trim files, including untrusted ones: checks every length before it allocates memory and every digest before it decodes.
// src/paretrim/trimfile/SPEC.md defines the format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/poll.h"

namespace paretrim {

// The stored size of one record or tensor of a file.
struct TrimPart {
  std::string name;    // of the record, or of the tensor's node
  std::string tensor;  // empty for a record
  double bytes = 0;    // stored
};

struct TrimContents {
  Graph graph;
  std::string provenance;         // JSON in UTF-8, or empty
  std::vector<TrimPart> tensors;  // large tensors, in graph order
  std::vector<TrimPart> records;  // the header, then the records
};

inline constexpr int max_readers = 64;  // maximum number of threads that decode a file

struct ReadSettings {
  int threads = 1;
  double limit = 1;              // factor on the budget of SPEC.md, "Budget"
  bool checked = true;           // whether to check the graph's structure before weights are decoded
  Poll poll;                     // called by every thread between rows of weights
  const Graph* known = nullptr;  // what the file must hold; the large tensors of the result then view those of this graph
  bool weights = true;           // false only with `known`: the data end before the records of weights
};

// The value of the environment variable PARETRIM_LIMIT, or 1. Throws unsupported_operation if it is not a number above 0.
double usual_limit();

// The number of multiply-adds that measuring kernels may take for a file of this size.
double measured_work(std::uint64_t file_bytes, double limit);

// Throws corrupt_file, naming the record. Does not check the contents of tensors; `validate` does.
TrimContents read_trim_contents(const std::uint8_t* data, std::size_t size, const ReadSettings& settings);
Graph read_trim(const std::uint8_t* data, std::size_t size, const ReadSettings& settings);

}  // namespace paretrim
