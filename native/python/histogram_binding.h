// Bindings of paretrim.runtime._native for histograms.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_histogram(nanobind::module_& module);

}  // namespace paretrim
