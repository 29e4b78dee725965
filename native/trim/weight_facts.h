// What a writer finds in the weights of a layer before it codes them: which of the format's ways are worth their bits.
#pragma once

#include "trim/weights.h"

namespace paretrim::trim {

// Magnitude of the smallest integer that a weight of at least `floor` can have become.
int smallest_magnitude(float floor, float scale);

// The largest floor, in the upper half of its bits, under which no weight lies: pruning by magnitude leaves such a gap around 0.
float floor_of(const Weights<const std::int8_t>& weights);

// A codebook that is not symmetric: few magnitudes, and others below 0 than above.
bool worth_sides(const Weights<const std::int8_t>& weights);

// Whether blocks without any weight are worth a mark.
bool worth_blocks(const Weights<const std::int8_t>& weights);

// The values other than 0 that occur, ascending. Empty where there are none or too many for a table.
std::vector<std::int8_t> listed_values(const Weights<const std::int8_t>& weights);

}  // namespace paretrim::trim
