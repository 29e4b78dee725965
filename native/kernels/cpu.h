// Which instruction sets this CPU runs.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

// By name, or the best for "". Throws unsupported_operation with the names there are.
const Kernels& kernels_named(const std::string& name);

std::string cpu_name();

}  // namespace paretrim
