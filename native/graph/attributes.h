// Reads the attributes of a node: its own value, or the default of docs/integer-graph.md. The rules come from operations.inc.
// Counterpart of paretrim/graph/operations/attributes.py.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace paretrim {

// One value per direction.
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

// The rule for one attribute. Integers lie in minimum..largest_extent; `length` is that of a list.
struct AttributeRule {
  std::string_view name;
  AttributeKind kind = AttributeKind::integer;
  std::size_t length = 0;
  std::int64_t minimum = 0;
  bool required = false;
  std::array<std::int64_t, 4> fallback = {};  // default of integers; numbers and texts have none
};

// Upper bound of every extent and of the number of elements of a value, so that indices fit into int32.
inline constexpr std::int64_t largest_extent = 2147483647;

const std::vector<AttributeRule>& attribute_rules(Op op);

// Throws unsupported_operation if an attribute is unknown, missing, of the wrong kind or out of range.
void check_attributes(const Node& node);

// The functions below require a node that check_attributes accepted. They throw unsupported_operation if the operation has no
// such attribute.
std::int64_t integer(const Node& node, std::string_view name);
std::vector<std::int64_t> integers(const Node& node, std::string_view name);
Pair pair(const Node& node, std::string_view name);    // stride, dilation, window, output_size
Edges edges(const Node& node, std::string_view name);  // padding, count_padding
std::string text(const Node& node, std::string_view name);
std::optional<double> number(const Node& node, std::string_view name);  // none if it is missing

}  // namespace paretrim
