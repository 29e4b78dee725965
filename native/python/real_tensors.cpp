#include "python/real_tensors.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace nb = nanobind;

namespace paretrim {
namespace {

constexpr nb::dlpack::dtype short_float{static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};

// (stride, size) of every axis longer than 1, in order of increasing stride.
std::vector<std::pair<std::int64_t, std::int64_t>> axes_of(const RealTensor& x) {
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;
  for (std::size_t axis = 0; axis < x.ndim(); ++axis) {
    if (x.shape(axis) != 1) axes.emplace_back(x.stride(axis), static_cast<std::int64_t>(x.shape(axis)));
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

}  // namespace

RealRows rows_of(const RealTensor& x, std::size_t rows) {
  RealRows found;
  if (x.dtype() == nb::dtype<float>()) {
    found.type = Real::float32;
  } else if (x.dtype() == short_float) {
    found.type = Real::bfloat16;
  } else {
    throw std::invalid_argument("x must be float32 or bfloat16; the training kernels support no other type");
  }
  if (x.size() == 0) throw std::invalid_argument("x is empty; give at least one number");
  std::int64_t next = 1;
  for (const auto& [stride, size] : axes_of(x)) {
    if (stride != next)
      throw std::invalid_argument("x has gaps or overlaps in memory; give a contiguous or channels_last tensor");
    next *= size;
  }
  if (rows != 1) {
    const bool first_axis = x.ndim() > 0 && x.shape(0) == rows && x.stride(0) * static_cast<std::int64_t>(rows) == next;
    if (!first_axis) throw std::invalid_argument("steps must hold one value, or one for each contiguous row of x");
  }
  found.rows = static_cast<std::int64_t>(rows);
  found.length = next / found.rows;
  return found;
}

void check_like(const RealTensor& x, const RealTensor& other, const char* name) {
  bool same = other.dtype() == x.dtype() && other.ndim() == x.ndim();
  for (std::size_t axis = 0; same && axis < x.ndim(); ++axis) {
    same = other.shape(axis) == x.shape(axis) && (x.shape(axis) == 1 || other.stride(axis) == x.stride(axis));
  }
  if (!same) throw std::invalid_argument(std::string(name) + " must have the type, shape and memory layout of x");
}

}  // namespace paretrim
