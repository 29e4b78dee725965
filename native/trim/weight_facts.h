// Statistics of a layer's weights, from which a writer decides which options of the format to use.
#pragma once

#include "trim/weights.h"

namespace paretrim::trim {

// The smallest integer magnitude to which a weight of at least `floor` can be rounded.
int smallest_magnitude(float floor, float scale);

// The largest float, with 16 significant bits of its 32, below which no nonzero weight lies. Magnitude pruning leaves such a gap
// around 0.
float floor_of(const Weights<const std::int8_t>& weights);

// Whether negative and positive weights need separate statistics: an asymmetric codebook with few magnitudes.
bool worth_sides(const Weights<const std::int8_t>& weights);

// Whether empty blocks are frequent enough to be marked.
bool worth_blocks(const Weights<const std::int8_t>& weights);

// The nonzero values that occur, ascending. Empty if there are none, or too many for a table.
std::vector<std::int8_t> listed_values(const Weights<const std::int8_t>& weights);

}  // namespace paretrim::trim
