// Converts Python objects with the attributes of paretrim.graph.types.Graph to native graphs.
#pragma once

#include <nanobind/nanobind.h>

#include "graph/graph.h"

namespace paretrim {

// Copies everything, so no Python object stays referenced. Throws corrupt_file if an object has the wrong type. Does not check
// the rules of a graph: that is what validate is for.
Graph graph_of(nanobind::handle graph);

}  // namespace paretrim
