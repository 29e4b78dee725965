// Tensors of training, which lie in this machine's memory without gaps.
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

// `x` as rows of its first axis, or as one row. Throws std::invalid_argument where it is not float32 or bfloat16, has gaps or
// nothing in it, or where a row is in several pieces.
RealRows rows_of(const RealTensor& x, std::size_t rows);

// Throws std::invalid_argument where a tensor does not lie as `x` does.
void check_like(const RealTensor& x, const RealTensor& other, const char* name);

}  // namespace paretrim
