// Convolutions and linear layers: weights packed for a view and a tile, the steps that compute them, and the choice among them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan/view.h"

namespace paretrim {

// A convolution or linear layer (then 1x1 on one pixel) as the integer graph states it.
struct Weighted {
  Geometry geometry;
  std::int64_t groups = 1;
  const std::int8_t* weight = nullptr;  // [outputs][inputs / groups][kernel]
  const std::int32_t* bias = nullptr;
  std::vector<float> multipliers;  // by output: input scale * weight scale (/ output scale where the result is uint8)
  std::uint8_t input_zero_point = 0;
  bool float_result = false;  // logits
  Requantization to;
  std::optional<Addition> addition;  // of a fused add
  bool addition_swapped = false;      // whether the convolution is its second operand
};

// The surviving blocks of one output channel: kernel position, input plane, four weights.
struct Block {
  std::int32_t position;
  std::int32_t plane;
  std::array<std::int8_t, 4> weights;
};
using Rows = std::vector<std::vector<Block>>;

Rows surviving_blocks(const Weighted& layer);

Entry entry_of(const Block& one, const View& view);

// bias - zero_point * sum of weights, modulo 2^32: what a sum over raw uint8 activations starts from.
std::vector<std::int32_t> initial_sums(const Weighted& layer);

inline constexpr int most_passes = 8;

// How a layer is computed. Its text form is what LayerReport::kernel shows and what saved choices hold.
struct Choice {
  ViewKind view = ViewKind::in_place;
  int vectors = 1;  // of one tile
  int grouped = 1;  // output channels that share their blocks; 1 takes each channel's own
  int passes = 1;   // over the input planes, so that what one pass reads stays in the first-level cache; more than 1 only ungrouped
};
std::string text_of(const Choice& choice);
std::optional<Choice> choice_from(const std::string& text);

// Whether the choice can compute this layer with these kernels.
bool possible(const Choice& choice, const Weighted& layer, const Kernels& kernels);

struct Operands {
  Buffer input = 0;
  Buffer copies = 0;  // room of View::bytes, where the view is not in place
  Buffer output = 0;
  Buffer added = 0;   // second operand of a fused add
};

struct Computation {
  std::vector<std::unique_ptr<Step>> steps;
  std::int64_t view_bytes = 0;
  std::int64_t weight_bytes = 0;
  double issued_multiply_adds = 0;
};

Computation compute(const Weighted& layer, const Rows& rows, const Choice& choice, const Operands& operands, int threads,
                    const Kernels& kernels);

// The best choice by rule of thumb, or by measuring the most promising ones on this CPU.
Choice choose(const Weighted& layer, const Rows& rows, bool measure, const Kernels& kernels);

}  // namespace paretrim
