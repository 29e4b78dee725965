// Layers with one output pixel: linear layers, and convolutions over the whole of their input. Here a register holds inputs, not
// pixels.
#pragma once

#include "plan/convolution.h"

namespace paretrim {

// Dense rows are dot products over the whole view; sparse ones take their surviving blocks one by one.
std::unique_ptr<Step> single_pixel_step(const WeightedLayer& layer, const Survivors& survivors, const View& view, bool dense,
                                        const Operands& operands, const Kernels& kernels, Computation& costs);

}  // namespace paretrim
