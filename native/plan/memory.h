// Allocates buffers in the arena: buffers whose lifetimes overlap get disjoint memory.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/step.h"

namespace paretrim {

struct Lifetime {
  std::int64_t bytes = 0;
  std::int64_t first = -1;  // first step that reads or writes the buffer
  std::int64_t last = -1;   // last step that does
};

std::vector<Lifetime> lifetimes_of(const Steps& steps, const std::vector<std::int64_t>& bytes);

struct Placement {
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
};

// Greedy by size: the largest buffer first, each at the lowest offset that is free during its lifetime.
Placement place(const std::vector<Lifetime>& lifetimes);

}  // namespace paretrim
