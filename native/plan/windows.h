// Max, average and adaptive pooling.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

std::unique_ptr<Step> max_pool_step(const Node& node, const ValueType& source, Buffer in, Buffer out, const Kernels& kernels);
std::unique_ptr<Step> average_step(const Node& node, const ValueType& source, Buffer in, Buffer out);

// On float32.
std::unique_ptr<Step> float_max_pool_step(const Node& node, const ValueType& source, Buffer in, Buffer out);
std::unique_ptr<Step> float_average_step(const Node& node, const ValueType& source, Buffer in, Buffer out);

}  // namespace paretrim
