// Native graphs of Python objects that have the attributes of paretrim.graph.types.Graph.
#pragma once

#include <nanobind/nanobind.h>

#include "graph/graph.h"

namespace paretrim {

// Copies everything, so that nothing of Python's is held. Throws corrupt_file where an object cannot stand for what it should;
// whether the graph keeps its rules is for validate to say.
Graph graph_of(nanobind::handle graph);

}  // namespace paretrim
