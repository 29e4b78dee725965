// Which part of an input each row and column of an average is over.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "plan/layout.h"

namespace paretrim {

// Input rows or columns of one output row or column, and how many positions count (padding may).
struct Span {
  std::int64_t first;
  std::int64_t last;
  std::int64_t counted;
};

// Of the rows and the columns of a result.
struct Spans {
  std::vector<Span> rows;
  std::vector<Span> columns;
};

Spans sliding_spans(const Node& node, const Layout& in, const Layout& out);
Spans adaptive_spans(const Node& node, const Layout& in, const Layout& out);

}  // namespace paretrim
