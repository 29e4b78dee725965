// Bytes at whose multiples buffers begin: a cache line, and the widest register.
#pragma once

#include <cstddef>

namespace paretrim {

inline constexpr std::size_t alignment = 64;

}  // namespace paretrim
