// What a node computes, in terms of the steps that compute it.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "plan/convolution.h"
#include "plan/moves.h"
#include "types/layer_report.h"

namespace paretrim {

WeightedLayer weighted_of(const Node& node, const ValueType& source);

// Of slice, pad and channel_shuffle.
Move move_of(const Node& node, const ValueType& source);

// A move of the channels of float32 values: of four bytes each.
Move of_numbers(Move move);

// 256 entries: max(q, zero_point).
std::vector<std::uint8_t> relu_table(std::int32_t zero_point);

// 256 entries: from the grid of one input of a concat to that of its result.
std::vector<std::uint8_t> rescaling(const Node& node, const ValueType& source);

void fill_report(LayerReport& report, const Node& node, const WeightedLayer& layer, const Choice& choice, double issued);

}  // namespace paretrim
