// The function of paretrim.runtime._native that counts values.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_histogram(nanobind::module_& module);

}  // namespace paretrim
