#include "plan/spans.h"

#include <algorithm>

#include "graph/attributes.h"

namespace paretrim {
namespace {

std::vector<Span> sliding(std::int64_t extent, std::int64_t count, std::int64_t window, std::int64_t stride, std::int64_t before,
                          std::int64_t counted_before, std::int64_t counted_after) {
  std::vector<Span> spans;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t first = i * stride - before;
    const std::int64_t last = first + window;
    spans.push_back({std::max<std::int64_t>(first, 0), std::min(last, extent),
                     std::min(last, extent + counted_after) - std::max(first, -counted_before)});
  }
  return spans;
}

std::vector<Span> adaptive(std::int64_t extent, std::int64_t count) {
  std::vector<Span> spans;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t first = i * extent / count;
    const std::int64_t last = ((i + 1) * extent + count - 1) / count;
    spans.push_back({first, last, last - first});
  }
  return spans;
}

}  // namespace

Spans sliding_spans(const Node& node, const Layout& in, const Layout& out) {
  const Edges padding = edges(node, "padding"), counted = edges(node, "count_padding");
  const Pair window = pair(node, "window"), stride = pair(node, "stride");
  return {sliding(in.height, out.height, window.vertical, stride.vertical, padding.top, counted.top, counted.bottom),
          sliding(in.width, out.width, window.horizontal, stride.horizontal, padding.left, counted.left, counted.right)};
}

Spans adaptive_spans(const Node&, const Layout& in, const Layout& out) {
  return {adaptive(in.height, out.height), adaptive(in.width, out.width)};
}

}  // namespace paretrim
