// Max, average and adaptive pooling.
#pragma once

#include <memory>

#include "plan/steps.h"

namespace paretrim {

std::unique_ptr<Step> max_pool_step(const StepRequest& request);
std::unique_ptr<Step> average_step(const StepRequest& request);
std::unique_ptr<Step> adaptive_average_step(const StepRequest& request);

// On float32.
std::unique_ptr<Step> float_max_pool_step(const StepRequest& request);
std::unique_ptr<Step> float_average_step(const StepRequest& request);
std::unique_ptr<Step> float_adaptive_average_step(const StepRequest& request);

}  // namespace paretrim
