// Converts Python objects with the attributes of paretrim.graph.types.Graph to native graphs.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <vector>

#include "graph/graph.h"

namespace paretrim {

// Keeps the memory of an array alive.
using ArrayHolder = nanobind::ndarray<nanobind::ro, nanobind::c_contig, nanobind::device::cpu>;

// Copies everything, so no Python object stays referenced. If `arrays` is not null, large float32 tensors are views instead, of
// arrays that are appended there. Throws corrupt_file if an object has the wrong type. Does not check the rules of a graph: that
// is what validate is for.
Graph graph_of(nanobind::handle graph, std::vector<ArrayHolder>* arrays = nullptr);

}  // namespace paretrim
