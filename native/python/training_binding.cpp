#include "python/training_binding.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "python/lock_release.h"
#include "python/real_tensors.h"

namespace nb = nanobind;

namespace paretrim {
namespace {

constexpr const char* kind_names[grid_kinds] = {"steps", "levels", "ends", "offset"};

GridKind kind_named(const std::string& name) {
  for (int at = 0; at < grid_kinds; ++at) {
    if (name == kind_names[at]) return static_cast<GridKind>(at);
  }
  throw std::invalid_argument("unknown kind '" + name + "'; choose one of steps, levels, ends, offset");
}

std::vector<RealGrid> grids_of(const Floats& steps, float low, float high, float offset) {
  std::vector<RealGrid> grids;
  for (std::size_t i = 0; i < steps.size(); ++i) grids.push_back({steps.data()[i], low, high, offset});
  return grids;
}

void move(const std::string& kind, const RealTensor& x, const Floats& steps, float low, float high, float offset,
          const RealTensor& out, int threads) {
  const GridKind by = kind_named(kind);
  const RealRows shape = rows_of(x, steps.size());
  check_like(x, out, "out");
  const std::vector<RealGrid> grids = grids_of(steps, low, high, offset);
  const LockRelease others_may_run;
  fake_quantize(by, shape, x.data(), grids, out.data(), threads);
}

void pass(const std::string& kind, const RealTensor& x, const RealTensor& gradient, const Floats& steps, float low, float high,
          float offset, const RealTensor& passed, const Doubles& sums, int threads) {
  const GridKind by = kind_named(kind);
  const RealRows shape = rows_of(x, steps.size());
  check_like(x, gradient, "gradient");
  check_like(x, passed, "passed");
  if (sums.shape(0) != steps.size() || sums.shape(1) != max_sums) {
    throw std::invalid_argument("sums must have shape [number of steps, " + std::to_string(max_sums) + "]");
  }
  const std::vector<RealGrid> grids = grids_of(steps, low, high, offset);
  const LockRelease others_may_run;
  fake_quantize_backward(by, shape, x.data(), gradient.data(), grids, passed.data(), sums.data(), threads);
}

std::pair<float, float> range(const RealTensor& x, int threads) {
  const RealRows shape = rows_of(x, 1);
  const LockRelease others_may_run;
  const Range found = range_of(shape, x.data(), threads);
  return {found.low, found.high};
}

}  // namespace

void bind_training(nb::module_& m) {
  m.def("fake_quantize", &move, nb::arg("kind"), nb::arg("x").noconvert(), nb::arg("steps").noconvert(), nb::arg("low"),
        nb::arg("high"), nb::arg("offset"), nb::arg("out").noconvert(), nb::arg("threads"));
  m.def("fake_quantize_backward", &pass, nb::arg("kind"), nb::arg("x").noconvert(), nb::arg("gradient").noconvert(),
        nb::arg("steps").noconvert(), nb::arg("low"), nb::arg("high"), nb::arg("offset"), nb::arg("passed").noconvert(),
        nb::arg("sums").noconvert(), nb::arg("threads"));
  m.def("range_of", &range, nb::arg("x").noconvert(), nb::arg("threads"));
}

}  // namespace paretrim
