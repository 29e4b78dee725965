// Tensors of the training kernels: on the CPU and without gaps in memory.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <vector>

#include "training/passes.h"

namespace paretrim {

using RealTensor = nanobind::ndarray<nanobind::device::cpu>;
using Floats = nanobind::ndarray<float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using Doubles = nanobind::ndarray<double, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;

// Views `x` as rows along its first axis, or as a single row. Throws std::invalid_argument if it is not float32 or bfloat16, is
// empty or has gaps, or if a row is not contiguous.
RealRows rows_of(const RealTensor& x, std::size_t rows);

// Throws std::invalid_argument unless `other` has the type, shape and strides of `x`.
void check_like(const RealTensor& x, const RealTensor& other, const char* name);

}  // namespace paretrim
