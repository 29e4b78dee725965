// Integer layers with one output pixel: linear layers, and convolutions over their whole input. Here a register holds inputs
// instead of pixels.
#pragma once

#include "plan/convolution.h"

namespace paretrim {

// If `dense`, each output is a dot product over the whole view; otherwise it processes its nonzero blocks one by one. Sets the
// weight bytes and issued multiply-adds of `costs`.
std::unique_ptr<Step> single_pixel_step(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, bool dense,
                                        const Operands& operands, const Kernels& kernels, Computation& costs);

}  // namespace paretrim
