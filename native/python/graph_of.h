// Native graphs of Python objects that have the attributes of paretrim.graph.types.Graph.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <vector>

#include "graph/graph.h"

namespace paretrim {

// What keeps the memory of an array.
using KeptArray = nanobind::ndarray<nanobind::ro, nanobind::c_contig, nanobind::device::cpu>;

// Copies everything, so that nothing of Python's is held; with `kept`, large tensors of float32 are views of arrays that are put
// there. Throws corrupt_file where an object cannot stand for what it should; whether the graph keeps its rules is for validate
// to say.
Graph graph_of(nanobind::handle graph, std::vector<KeptArray>* kept = nullptr);

}  // namespace paretrim
