// Matrix products of two activations, one product per channel.
#pragma once

#include "plan/steps.h"

namespace paretrim {

std::unique_ptr<Step> matmul_step(const StepRequest& request);
std::unique_ptr<Step> float_matmul_step(const StepRequest& request);

}  // namespace paretrim
