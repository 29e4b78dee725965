// Where buffers lie in the arena: buffers whose lives overlap get different places.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/step.h"

namespace paretrim {

struct Life {
  std::int64_t bytes = 0;
  std::int64_t first = -1;  // step that writes it first
  std::int64_t last = -1;   // step that uses it last
};

// Of buffers of so many bytes, from the first step that reads or writes them to the last.
std::vector<Life> lives_of(const Steps& steps, const std::vector<std::int64_t>& bytes);

struct Placement {
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
};

// Largest first, each at the lowest place that is free during its life.
Placement place(const std::vector<Life>& lives);

}  // namespace paretrim
