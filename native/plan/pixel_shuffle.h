// Pixel shuffle, [C * r * s, H, W] to [C, H * r, W * s], and its inverse.
#pragma once

#include "plan/steps.h"

namespace paretrim {

std::unique_ptr<Step> pixel_shuffle_step(const StepRequest& request);
std::unique_ptr<Step> float_pixel_shuffle_step(const StepRequest& request);
std::unique_ptr<Step> pixel_unshuffle_step(const StepRequest& request);
std::unique_ptr<Step> float_pixel_unshuffle_step(const StepRequest& request);

}  // namespace paretrim
