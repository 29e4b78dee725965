// Attributes of a node, read by kind: its own value, or the default of docs/integer-graph.md. The rules come from operations.inc;
// this is the C++ twin of paretrim/graph/operations/attributes.py.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

// A value for each direction, vertical before horizontal.
struct Pair {
  std::int64_t vertical = 1;
  std::int64_t horizontal = 1;
};

struct Edges {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t bottom = 0;
  std::int64_t right = 0;
};

enum class AttributeKind : std::uint8_t { integer, integers, number, text };

// What one attribute may be. Integers lie in minimum..largest_extent; length is that of a list.
struct AttributeRule {
  std::string_view name;
  AttributeKind kind = AttributeKind::integer;
  std::size_t length = 0;
  std::int64_t minimum = 0;
  bool required = false;
  std::array<std::int64_t, 4> fallback = {};  // for integers that are left out; numbers and texts have none
};

// No extent, and no number of elements of a value, may exceed this: an index always fits into int32.
inline constexpr std::int64_t largest_extent = 2147483647;

const std::vector<AttributeRule>& attribute_rules(Op op);

// Throws unsupported_operation: an attribute is unknown, missing, of the wrong kind or out of range.
void check_attributes(const Node& node);

// The readers below are for nodes that check_attributes accepted; asked for what an operation does not have, they throw
// unsupported_operation.
std::int64_t integer(const Node& node, std::string_view name);
std::vector<std::int64_t> integers(const Node& node, std::string_view name);
Pair pair(const Node& node, std::string_view name);    // stride, dilation, window, output_size
Edges edges(const Node& node, std::string_view name);  // padding, count_padding
std::string text(const Node& node, std::string_view name);
std::optional<double> number(const Node& node, std::string_view name);  // nothing if it is left out

}  // namespace paretrim
