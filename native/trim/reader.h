// Reads a .trim file, which may come from anyone: every length is checked before memory is taken, every digest before a byte is
// decoded. The format is written in src/paretrim/trimfile/SPEC.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

// What the pieces of a file take.
struct TrimPart {
  std::string name;    // of the record, or of the node
  std::string tensor;  // empty for a record
  double bytes = 0;    // stored
};

struct TrimContents {
  Graph graph;
  std::string provenance;           // JSON, or empty; the reader has checked that it is UTF-8
  std::vector<TrimPart> tensors;    // the large ones, in the order of the graph
  std::vector<TrimPart> records;    // header, then the records
};

// Throws corrupt_file with the name of the record. The graph fits together (sizes, names, order); whether it keeps the rules of its
// operations is for `validate` to say.
TrimContents read_trim_contents(const std::uint8_t* data, std::size_t size, int threads);
Graph read_trim(const std::uint8_t* data, std::size_t size, int threads);

}  // namespace paretrim
