// Valid names of nodes.
#pragma once

#include <cstddef>
#include <string_view>

namespace paretrim {

inline constexpr std::size_t longest_name = 500;

// Whether a name is 1 to `longest_name` characters of valid UTF-8, all of them visible.
bool printable(std::string_view name);

}  // namespace paretrim
