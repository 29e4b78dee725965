// Element types of arrays that nanobind has no C++ type for. A bfloat16 is its bits in a uint16, since NumPy has none.
#pragma once

#include <nanobind/ndarray.h>

namespace paretrim {

inline constexpr nanobind::dlpack::dtype half{static_cast<std::uint8_t>(nanobind::dlpack::dtype_code::Float), 16, 1};

}  // namespace paretrim
