// The functions of paretrim.runtime._native that training calls: fake quantization in one pass.
#pragma once

#include <nanobind/nanobind.h>

namespace paretrim {

void bind_training(nanobind::module_& module);

}  // namespace paretrim
