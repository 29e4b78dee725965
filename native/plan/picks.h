// Gathers registers of pixels from arbitrary positions of a plane.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

// Appends the picks that fill one register: lane l gets pixel sources[l] of the plane, or stays unfilled if that is negative. The
// other sources must be in ascending order. Marks the final pick as the register's last.
void add_picks_of_register(const std::vector<std::int64_t>& sources, int lanes, std::vector<Pick>& picks);

}  // namespace paretrim
