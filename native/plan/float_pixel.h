// Float32 layers whose result is one pixel: linear layers, and convolutions at the end of a network.
#pragma once

#include <memory>

#include "plan/convolution.h"

namespace paretrim {

// `dense`: outputs share what they read; else each has its own list. Weight bytes and work are added to `costs`.
std::unique_ptr<Step> float_pixel_step(const WeightedLayer& layer, const Survivors& survivors, const View& view, bool dense,
                                       const Operands& operands, const Kernels& kernels, Computation& costs);

}  // namespace paretrim
