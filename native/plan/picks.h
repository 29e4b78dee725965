// Registers of pixels assembled from arbitrary places of a plane.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace paretrim {

// Adds the picks that fill one register: lane l holds pixel sources[l] of the plane, or nothing where that is negative. Sources
// that are there ascend. The last pick added is marked as the register's last.
void add_picks_of_register(const std::vector<std::int64_t>& sources, int lanes, std::vector<Pick>& picks);

}  // namespace paretrim
