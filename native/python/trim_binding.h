// The functions of paretrim.runtime._native that read and write .trim files.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_trim(nanobind::module_& module);

}  // namespace paretrim
