// float32 layers whose result is one pixel: linear layers, and convolutions at the end of a network.
#pragma once

#include <memory>

#include "plan/convolution.h"

namespace paretrim {

// If `dense`, a group of outputs shares one list of inputs; otherwise each output has its own list. Sets the weight bytes and
// issued multiply-adds of `costs`.
std::unique_ptr<Step> float_pixel_step(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, bool dense,
                                       const Operands& operands, const Kernels& kernels, Computation& costs);

}  // namespace paretrim
