// Packs the weights of the layers of a plan, on all threads of a pool.
#pragma once

#include <memory>
#include <vector>

#include "plan/convolution.h"
#include "threads/pool.h"
#include "types/poll.h"

namespace paretrim {

// A layer whose kernel is chosen, and its step once it is packed.
struct UnpackedLayer {
  std::size_t step;    // its place in the plan
  std::size_t report;  // index of its LayerReport
  const Node* node;
  WeightedLayer layer;
  NonzeroBlocks nonzero;
  Choice choice;
  Operands operands;
  Computation made;
};
using UnpackedLayers = std::vector<std::unique_ptr<UnpackedLayer>>;

// Makes the steps of all layers. `poll` is called before every layer, by the thread that packs it.
void pack(const UnpackedLayers& layers, Pool& pool, const Kernels& kernels, const Poll& poll);

}  // namespace paretrim
