// Operations that only move values: slice, pad, channel shuffle, concat, flatten.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

// Pixel (y, x) of output channel first_channel + c is pixel (row + y * row_step, column + x * column_step) of input channel
// channels[c], or `fill` if channels[c] is negative or that pixel lies outside the input.
struct Move {
  Layout in;
  Layout out;
  std::int64_t first_channel = 0;  // first output channel that is written; others stay as they are
  std::vector<std::int64_t> channels;
  std::int64_t row = 0;
  std::int64_t row_step = 1;
  std::int64_t column = 0;
  std::int64_t column_step = 1;
  std::uint8_t fill = 0;
  std::vector<std::uint8_t> table;  // lookup table of 256 entries for values that are moved, not for fill; empty for none
};

// The single move that equals `first` followed by `second`. None if there is no such move or one of the two has a table.
std::optional<Move> joined(const Move& first, const Move& second);

std::unique_ptr<Step> move_step(Move move, Buffer in, Buffer out, const Kernels& kernels);

// Planes [C, H, W] to a vector [C * H * W].
std::unique_ptr<Step> flatten_step(const Layout& layout, Buffer in, Buffer out);

}  // namespace paretrim
