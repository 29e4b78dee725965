// Reads a .trim file, which may come from anyone: every length is checked before memory is taken, every digest before a byte is
// decoded. The format is written in src/paretrim/trimfile/SPEC.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/poll.h"

namespace paretrim {

// What the pieces of a file take.
struct TrimPart {
  std::string name;    // of the record, or of the node
  std::string tensor;  // empty for a record
  double bytes = 0;    // stored
};

struct TrimContents {
  Graph graph;
  std::string provenance;         // JSON, or empty; the reader has checked that it is UTF-8
  std::vector<TrimPart> tensors;  // the large ones, in the order of the graph
  std::vector<TrimPart> records;  // header, then the records
};

inline constexpr int most_readers = 64;  // threads that decode a file

struct ReadSettings {
  int threads = 1;
  double limit = 1;  // how many times the usual memory and work a file may take: SPEC.md, "Budget"
  bool checked =
      true;   // whether the graph's structure must keep the rules of its operations, which is seen before weights are decoded
  Poll poll;  // called between rows of weights, by every thread
};

// 1, or what the environment variable PARETRIM_LIMIT says. Throws unsupported_operation where that is no number above 0.
double usual_limit();

// Multiply-adds that choosing kernels for the network of a file of so many bytes may execute.
double measured_work(std::uint64_t file_bytes, double limit);

// Throws corrupt_file with the name of the record. What tensors hold is for `validate` to look at.
TrimContents read_trim_contents(const std::uint8_t* data, std::size_t size, const ReadSettings& settings);
Graph read_trim(const std::uint8_t* data, std::size_t size, const ReadSettings& settings);

}  // namespace paretrim
