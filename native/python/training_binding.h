// Bindings of paretrim.runtime._native for training: fake quantization in one pass over memory.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_training(nanobind::module_& module);

}  // namespace paretrim
