// A plan: a graph as steps over an arena. Holds everything that calls need except their working memory.
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

// A float32 value that a step computes. It stays in its buffer until a later step reuses the memory.
struct StepValue {
  std::string name;  // of its node
  ValueType type;
  Buffer buffer = 0;
  std::size_t steps = 0;  // number of steps after which it is complete
};

struct Plan {
  Steps steps;
  std::vector<std::int64_t> offsets;  // by buffer
  std::int64_t arena_bytes = 0;
  std::int64_t copies_bytes = 0;  // for copies, in the scratch of each thread
  std::int64_t weight_bytes = 0;
  std::vector<LayerReport> layers;
  std::vector<StepValue> values;     // in the order of the steps
  std::vector<std::string> choices;  // kernel of every weighted layer, in graph order
};

// Kernels are measured on the threads of `pool`, which will also run the plan. `chosen` holds earlier Plan::choices of the same
// graph and kernels; if it is empty, every layer's kernel is chosen anew. Throws unsupported_operation or corrupt_file, naming
// the node and its layer.
Plan make_plan(const Graph& graph, const Kernels& kernels, Pool& pool, const Settings& settings,
               const std::vector<std::string>& chosen);

}  // namespace paretrim
