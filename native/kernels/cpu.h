// The instruction sets that this CPU supports.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

// The kernels of a named instruction set; "" selects the best one. Throws unsupported_operation, listing the supported names.
const Kernels& kernels_named(const std::string& name);

std::string cpu_name();

// Supported instruction sets, best first; "plain" is always last.
std::vector<std::string> instruction_sets();

// Peak 8-bit multiply-adds per second on one thread, by microbenchmark.
double peak_multiply_adds_a_second(const std::string& set);

}  // namespace paretrim
