// Where buffers lie in the arena: buffers whose lives overlap get different places.
#pragma once

#include <cstdint>
#include <vector>

namespace paretrim {

struct Life {
  std::int64_t bytes = 0;
  std::int64_t first = 0;  // step that writes it first
  std::int64_t last = 0;   // step that uses it last
};

struct Placement {
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
};

// Largest first, each at the lowest place that is free during its life.
Placement place(const std::vector<Life>& lives);

}  // namespace paretrim
