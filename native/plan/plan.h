// A graph turned into steps over an arena: everything a call needs but the call's own memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/step.h"
#include "threads/pool.h"
#include "types/layer_report.h"
#include "types/settings.h"

namespace paretrim {

// A float32 value that a step leaves in a buffer, where it stays until later steps need the memory.
struct MadeValue {
  std::string name;  // of its node
  ValueType type;
  Buffer buffer = 0;
  std::size_t steps = 0;  // after so many steps it is complete
};

struct Plan {
  Steps steps;
  std::vector<std::int64_t> offsets;  // by buffer
  std::int64_t arena_bytes = 0;
  std::int64_t copies_bytes = 0;  // of the scratch of each thread
  std::int64_t weight_bytes = 0;
  std::vector<LayerReport> layers;
  std::vector<MadeValue> values;     // in the order of the steps
  std::vector<std::string> choices;  // kernel of every weighted layer, in the order of the graph
};

// The pool's threads are those that will run the plan; kernels are measured on them. `chosen` are earlier Plan::choices of the
// same graph and kernels, or empty: then every layer chooses. Throws unsupported_operation or corrupt_file, naming the node and
// its layer.
Plan make_plan(const Graph& graph, const Kernels& kernels, Pool& pool, const Settings& settings,
               const std::vector<std::string>& chosen);

}  // namespace paretrim
