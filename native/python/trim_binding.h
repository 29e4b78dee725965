// Bindings of paretrim.runtime._native for reading and writing .trim files.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_trim(nanobind::module_& module);

}  // namespace paretrim
