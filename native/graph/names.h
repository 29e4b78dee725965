// What may be the name of a node.
#pragma once

#include <cstddef>
#include <string_view>

namespace paretrim {

inline constexpr std::size_t longest_name = 500;

// 1 to `longest_name` characters of well-formed UTF-8 that can all be seen.
bool printable(std::string_view name);

}  // namespace paretrim
