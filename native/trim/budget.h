// Limits on the memory and work of loading a file, by its size. See SPEC.md, "Budget".
#pragma once

#include <atomic>
#include <cstdint>

#include "graph/graph.h"

namespace paretrim::trim {

// Throws corrupt_file if a text has more decoded bytes than `times` the budget for its stored bytes.
void check_text(std::uint64_t decoded, std::uint64_t stored, double times);

// Throws corrupt_file if the parameters have more decoded bytes than `times` the budget of a file of this size.
void check_parameters(std::uint64_t decoded, std::uint64_t file_bytes, double times);

// Bytes of weights other than 0 that a model decodes bit by bit. A stream of equal weights has next to no bytes, but takes as
// long as any other, and how many of its weights are not 0 is only known while it is decoded. Shared by all threads of a load.
class Allowance {
 public:
  // `most` are the bytes of all weights of the file.
  Allowance(std::uint64_t most, std::uint64_t file_bytes, double times) : most_(most), file_bytes_(file_bytes), times_(times) {}

  // Throws corrupt_file if these bytes exceed the budget, together with all before.
  void take(std::uint64_t bytes);

 private:
  std::uint64_t most_, file_bytes_;
  double times_;
  std::atomic<std::uint64_t> taken_{0};
};

// Throws corrupt_file if the graph exceeds `times` the budget of a file of this size.
void check_budget(const Graph& graph, std::uint64_t file_bytes, double times);

}  // namespace paretrim::trim
