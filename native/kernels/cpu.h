// Which instruction sets this CPU runs.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

// By name, or the best for "". Throws unsupported_operation with the names there are.
const Kernels& kernels_named(const std::string& name);

std::string cpu_name();

// That this CPU runs, best first; "plain" is always last.
std::vector<std::string> instruction_sets();

// Of 8-bit products on one thread, by a microbenchmark.
double peak_multiply_adds_a_second(const std::string& set);

}  // namespace paretrim
