// The rows and columns of the input that each output of an average pool covers.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "plan/layout.h"

namespace paretrim {

// The input rows or columns [first, last) of one output row or column, and how many positions count towards the average, which
// may include padding.
struct Span {
  std::int64_t first;
  std::int64_t last;
  std::int64_t counted;
};

// One span for each row and each column of the result.
struct Spans {
  std::vector<Span> rows;
  std::vector<Span> columns;
};

Spans sliding_spans(const Node& node, const Layout& in, const Layout& out);
Spans adaptive_spans(const Node& node, const Layout& in, const Layout& out);

}  // namespace paretrim
