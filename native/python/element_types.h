// Array element types without a C++ type in nanobind. NumPy has no bfloat16, so its bits travel as uint16.
#pragma once

#include <nanobind/ndarray.h>

namespace paretrim {

inline constexpr nanobind::dlpack::dtype half{static_cast<std::uint8_t>(nanobind::dlpack::dtype_code::Float), 16, 1};

}  // namespace paretrim
