// The pieces of one record as a graph of their own, which holds nothing else.
#pragma once

#include <vector>

#include "graph/graph.h"
#include "trim/records.h"

namespace paretrim::trim {

struct Part {
  Graph graph;
  std::vector<Piece> pieces;
};

// A part with memory for the rows of every piece, all zero, and copies of the scales that the coding of weights looks at.
Part part_of(const Graph& graph, const std::vector<Piece>& pieces);

}  // namespace paretrim::trim
