// Operations that only move values: slice, pad, channel shuffle, concat, flatten.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "plan/layout.h"
#include "plan/step.h"

namespace paretrim {

// Output channel c, pixel (y, x) is channel channels[c] of the input at (row + y * row_step, column + x * column_step), or
// `fill` where channels[c] is negative or the place lies outside.
struct Move {
  Layout in;
  Layout out;
  std::int64_t first_channel = 0;  // of the output; channels beyond channels.size() are left alone
  std::vector<std::int64_t> channels;
  std::int64_t row = 0;
  std::int64_t row_step = 1;
  std::int64_t column = 0;
  std::int64_t column_step = 1;
  std::uint8_t fill = 0;
  std::vector<std::uint8_t> table;  // 256 entries applied to what is moved, or none; not to what is filled
};

// The single move that equals `first` and then `second` (neither with a table), if their borders allow it.
std::optional<Move> joined(const Move& first, const Move& second);

std::unique_ptr<Step> move_step(Move move, Buffer in, Buffer out, const Kernels& kernels);

// [C, H, W] to [C * H * W].
std::unique_ptr<Step> flatten_step(const Layout& layout, Buffer in, Buffer out);

}  // namespace paretrim
