// Kernel choices as one line of text that says which runtime, CPU and graph they were measured for.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "kernels/kernels.h"

namespace paretrim {

// Version of the runtime's kernels, instruction set, CPU and a digest of the graph.
std::string identity_of(const Graph& graph, const Kernels& kernels);

std::string joined_choices(const std::string& identity, const std::vector<std::string>& choices);

// The choices in `saved`, or none if they are for another identity or cannot be read.
std::vector<std::string> choices_for(const std::string& identity, const std::string& saved);

}  // namespace paretrim
