// Translates nodes of the graph to the descriptions that steps are made from.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "plan/convolution.h"
#include "plan/moves.h"
#include "types/layer_report.h"

namespace paretrim {

WeightedLayer weighted_of(const Node& node, const ValueType& source);

// For slice, pad and channel_shuffle.
Move move_of(const Node& node, const ValueType& source);

// The same move on float32 values: each of their channels takes the place of four uint8 channels.
Move float_move(Move move);

// 256 entries: max(q, zero_point).
std::vector<std::uint8_t> relu_table(std::int32_t zero_point);

// 256 entries: requantizes one input of a concat to the grid of the result.
std::vector<std::uint8_t> rescaling_table(const Node& node, const ValueType& source);

void fill_report(LayerReport& report, const Node& node, const WeightedLayer& layer, const Choice& choice, double issued);

}  // namespace paretrim
