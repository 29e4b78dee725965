#include "python/histogram_binding.h"

#include <nanobind/ndarray.h>

#include <algorithm>

#include "kernels/histogram.h"
#include "python/lock_release.h"

namespace nb = nanobind;

namespace paretrim {
namespace {

using Row = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<std::int64_t, nb::shape<2 * histogram_side>, nb::c_contig, nb::device::cpu>;

nb::tuple count(const Row& values, const Counts& counts, double low, double high, int exponent) {
  Histogram histogram{low, high, std::clamp(exponent, -largest_exponent, largest_exponent), counts.data()};
  {
    const LockRelease others_may_run;
    histogram.add(values.data(), values.size());
  }
  return nb::make_tuple(histogram.low, histogram.high, histogram.exponent);
}

}  // namespace

void bind_histogram(nb::module_& module) {
  module.def("count_values", &count, nb::arg("values").noconvert(), nb::arg("counts").noconvert(), nb::arg("low"),
             nb::arg("high"), nb::arg("exponent"));
}

}  // namespace paretrim
