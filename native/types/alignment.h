// Alignment of buffers in bytes: a cache line, which is also the widest vector register.
#pragma once

#include <cstddef>

namespace paretrim {

inline constexpr std::size_t alignment = 64;

}  // namespace paretrim
