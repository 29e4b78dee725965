// Kernel choices as one line of text, together with the runtime, CPU and graph that they were measured for.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "kernels/kernels.h"

namespace paretrim {

// Version of the kernels, instruction set, CPU, and a digest of the graph.
std::string identity_of(const Graph& graph, const Kernels& kernels, bool of_weights);

std::string joined_choices(const std::string& identity, const std::vector<std::string>& choices);

// The choices in `saved`, or none if they were made for another identity or cannot be parsed.
std::vector<std::string> choices_for(const std::string& identity, const std::string& saved);

}  // namespace paretrim
