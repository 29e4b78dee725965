#include "graph/shapes.h"

#include <algorithm>

#include "graph/attributes.h"
#include "types/error.h"

// Attributes and extents of accepted shapes are at most largest_extent = 2**31 - 1, so a product of two and a sum of three fit
// int64. Larger products go through bounded_size.
namespace paretrim {
namespace {

[[noreturn]] void refuse(Op op, const std::string& why) {
  throw Error(ErrorKind::unsupported_operation, std::string(name_of(op)) + " " + why);
}

std::string edges_text(const Edges& edges) { return text_of(Shape{edges.top, edges.left, edges.bottom, edges.right}); }

const Shape& image(const Node& node, const Shape& shape) {
  if (shape.size() != 3) refuse(node.op, "needs an input [C, H, W] and was given " + text_of(shape));
  return shape;
}

const Shape& weight_shape(const Node& node, std::size_t dimensions) {
  const auto found = node.tensors.find("weight");
  if (found == node.tensors.end()) refuse(node.op, "lacks the tensor 'weight'; add it");
  const Shape& shape = found->second.shape;
  if (shape.size() != dimensions) {
    refuse(node.op, "has a weight of shape " + text_of(shape) + "; it must have " + std::to_string(dimensions) + " dimensions");
  }
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent < 1; })) {
    refuse(node.op, "has an empty weight of shape " + text_of(shape) + "; its extents must be 1 or more");
  }
  return shape;
}

// Output extents of a sliding window. `inside` requires every window to overlap the input, not only padding.
Shape slide(const Node& node, const Shape& shape, Pair window, Pair dilation, bool inside) {
  const Pair stride = pair(node, "stride");
  const Edges padding = edges(node, "padding");
  const auto along = [&](std::int64_t extent, std::int64_t size, std::int64_t step, std::int64_t spread, std::int64_t before,
                         std::int64_t after) {
    const std::int64_t reach = (size - 1) * spread + 1;
    const std::int64_t padded = extent + before + after;
    if (padded > largest_extent || reach > padded) {
      refuse(node.op, "with a window that reaches " + std::to_string(reach) + " does not fit an extent of " +
                          std::to_string(extent) + " padded to " + std::to_string(padded) +
                          "; use a smaller window or larger images");
    }
    if (inside && std::max(before, after) >= reach) {
      refuse(node.op, "pads " + std::to_string(before) + " and " + std::to_string(after) + "; a window that reaches " +
                          std::to_string(reach) + " would see padding only, so pad less");
    }
    return (padded - reach) / step + 1;
  };
  const std::int64_t down = along(shape[1], window.vertical, stride.vertical, dilation.vertical, padding.top, padding.bottom);
  const std::int64_t across =
      along(shape[2], window.horizontal, stride.horizontal, dilation.horizontal, padding.left, padding.right);
  const Shape padded = {shape[0], shape[1] + padding.top + padding.bottom, shape[2] + padding.left + padding.right};
  if (bounded_size(padded) > largest_extent) {
    refuse(node.op, "pads its input to " + text_of(padded) + ", more elements than int32 can index; pad less");
  }
  return {shape[0], down, across};
}

// The shape rules have the same names as in Python; operations.inc assigns one to each operation.
using Shapes = std::vector<Shape>;

Shape same_shape(const Node&, const Shapes& inputs) { return inputs[0]; }

Shape convolution_shape(const Node& node, const Shapes& inputs) {
  const Shape& shape = image(node, inputs[0]);
  const Shape& weight = weight_shape(node, 4);
  const std::int64_t groups = integer(node, "groups");
  if (weight[1] * groups != shape[0] || weight[0] % groups != 0) {
    refuse(node.op, "weight " + text_of(weight) + " in " + std::to_string(groups) + " groups does not fit " +
                        std::to_string(shape[0]) + " input channels; its second extent must be channels / groups");
  }
  Shape result = slide(node, shape, {weight[2], weight[3]}, pair(node, "dilation"), false);
  result[0] = weight[0];
  return result;
}

Shape linear_shape(const Node& node, const Shapes& inputs) {
  const Shape& weight = weight_shape(node, 2);
  if (inputs[0] != Shape{weight[1]}) {
    refuse(node.op, "weight " + text_of(weight) + " does not fit the input " + text_of(inputs[0]) + "; flatten it first");
  }
  return {weight[0]};
}

Shape max_shape(const Node& node, const Shapes& inputs) {
  return slide(node, image(node, inputs[0]), pair(node, "window"), pair(node, "dilation"), true);
}

Shape average_shape(const Node& node, const Shapes& inputs) {
  const Shape& shape = image(node, inputs[0]);
  const Edges padding = edges(node, "padding");
  const Edges counted = edges(node, "count_padding");
  if (counted.top > padding.top || counted.left > padding.left || counted.bottom > padding.bottom ||
      counted.right > padding.right) {
    refuse(node.op,
           "counts " + edges_text(counted) + " of the padding " + edges_text(padding) + "; it cannot count more than there is");
  }
  return slide(node, shape, pair(node, "window"), {}, true);
}

Shape adaptive_shape(const Node& node, const Shapes& inputs) {
  const Pair size = pair(node, "output_size");
  return {image(node, inputs[0])[0], size.vertical, size.horizontal};
}

Shape sum_shape(const Node& node, const Shapes& inputs) {
  if (inputs[0] == inputs[1]) return inputs[0];
  refuse(node.op, "needs two equal shapes and was given " + text_of(inputs[0]) + " and " + text_of(inputs[1]));
}

Shape product_shape(const Node& node, const Shapes& inputs) {
  const Shape& first = inputs[0];
  const Shape& second = inputs[1];
  if (first == second) return first;
  const auto scales = [](const Shape& factor, const Shape& whole) {
    return whole.size() == 3 && factor == Shape{whole[0], 1, 1};
  };
  if (scales(second, first)) return first;
  if (scales(first, second)) return second;
  refuse(node.op,
         "needs equal shapes, or [C, 1, 1] against [C, H, W], and was given " + text_of(first) + " and " + text_of(second));
}

Shape matmul_shape(const Node& node, const Shapes& inputs) {
  const Shape& first = image(node, inputs[0]);
  const Shape& second = image(node, inputs[1]);
  const std::int64_t transposed = integer(node, "transposed");
  if (transposed > 1) refuse(node.op, "has transposed = " + std::to_string(transposed) + "; it must be 0 or 1");
  const std::int64_t depth = second[transposed == 1 ? 2 : 1];
  if (first[0] != second[0] || first[2] != depth) {
    refuse(node.op, "needs [C, H, K] and [C, K, W], or [C, W, K] if transposed, and was given " + text_of(first) + " and " +
                        text_of(second));
  }
  constexpr std::int64_t max_products = 33025;  // so many products of at most 255 * 255 fit int32
  if (depth > max_products) {
    refuse(node.op, "sums " + std::to_string(depth) + " products; an int32 holds " + std::to_string(max_products) +
                        " at most, so sum fewer");
  }
  return {first[0], first[1], second[transposed == 1 ? 1 : 2]};
}

Shape joined_shape(const Node& node, const Shapes& inputs) {
  Shape result = inputs[0];
  if (result.empty()) refuse(node.op, "joins channels and was given " + text_of(result));
  for (std::size_t index = 1; index < inputs.size(); ++index) {
    const Shape& shape = inputs[index];
    if (shape.size() != result.size() || !std::equal(shape.begin() + 1, shape.end(), result.begin() + 1)) {
      refuse(node.op, "joins channels of equal maps and was given " + text_of(inputs[0]) + " and " + text_of(shape));
    }
    // Saturates after each addition, so that no number of inputs overflows int64.
    result[0] = std::min(result[0] + shape[0], largest_extent + 1);
  }
  return result;
}

Shape slice_shape(const Node& node, const Shapes& inputs) {
  const Shape& input = inputs[0];
  const std::int64_t axis = integer(node, "axis");
  const std::int64_t start = integer(node, "start");
  const std::int64_t stop = integer(node, "stop");
  const std::int64_t step = integer(node, "step");
  const bool on_axis = axis < static_cast<std::int64_t>(input.size());
  if (!on_axis || start >= stop || stop > input[static_cast<std::size_t>(axis)]) {
    refuse(node.op, std::to_string(start) + ":" + std::to_string(stop) + ":" + std::to_string(step) + " of axis " +
                        std::to_string(axis) + " leaves the input " + text_of(input) + "; stay within it");
  }
  Shape result = input;
  result[static_cast<std::size_t>(axis)] = (stop - start - 1) / step + 1;
  return result;
}

Shape padded_shape(const Node& node, const Shapes& inputs) {
  Shape result = image(node, inputs[0]);
  const std::vector<std::int64_t> before = integers(node, "before");
  const std::vector<std::int64_t> after = integers(node, "after");
  for (std::size_t axis = 0; axis < result.size(); ++axis) result[axis] += before[axis] + after[axis];
  return result;
}

Shape shuffled_shape(const Node& node, const Shapes& inputs) {
  const Shape& shape = image(node, inputs[0]);
  const std::int64_t groups = integer(node, "groups");
  if (shape[0] % groups == 0) return shape;
  refuse(node.op, "in " + std::to_string(groups) + " groups does not divide " + std::to_string(shape[0]) +
                      " channels; choose groups that divide them");
}

Shape pixels_shape(const Node& node, const Shapes& inputs) {
  const Shape& shape = image(node, inputs[0]);
  const Pair factor = pair(node, "factor");
  if (shape[0] % (factor.vertical * factor.horizontal) != 0) {
    refuse(node.op, "by " + std::to_string(factor.vertical) + " x " + std::to_string(factor.horizontal) + " does not divide " +
                        std::to_string(shape[0]) + " channels; choose a factor that divides them");
  }
  return {shape[0] / (factor.vertical * factor.horizontal), shape[1] * factor.vertical, shape[2] * factor.horizontal};
}

Shape blocks_shape(const Node& node, const Shapes& inputs) {
  const Shape& shape = image(node, inputs[0]);
  const Pair factor = pair(node, "factor");
  if (shape[1] % factor.vertical != 0 || shape[2] % factor.horizontal != 0) {
    refuse(node.op, "by " + std::to_string(factor.vertical) + " x " + std::to_string(factor.horizontal) + " does not divide " +
                        std::to_string(shape[1]) + " x " + std::to_string(shape[2]) +
                        " pixels; choose a factor that divides them");
  }
  return {shape[0] * factor.vertical * factor.horizontal, shape[1] / factor.vertical, shape[2] / factor.horizontal};
}

Shape flat_shape(const Node&, const Shapes& inputs) { return {bounded_size(inputs[0])}; }

Shape unflat_shape(const Node& node, const Shapes& inputs) {
  if (inputs[0].size() == 1) return {inputs[0][0], 1, 1};
  refuse(node.op, "needs an input [C] and was given " + text_of(inputs[0]));
}

using ShapeRule = Shape (*)(const Node&, const Shapes&);

constexpr ShapeRule shape_rules[] = {
#define PARETRIM_OPERATION(name, inputs, grid, multiplies, ships, rescaling, work, shape_rule) shape_rule,
#include "graph/operations.inc"
};

}  // namespace

std::string text_of(const Shape& shape) {
  std::string result = "(";
  for (const std::int64_t extent : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(extent);
  return result + (shape.size() == 1 ? ",)" : ")");
}

std::int64_t bounded_size(const Shape& shape) {
  std::int64_t result = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || extent > largest_extent) return largest_extent + 1;
    result *= extent;
    if (result > largest_extent) return largest_extent + 1;
  }
  return result;
}

Shape infer_shape(const Node& node, const std::vector<Shape>& inputs) {
  const std::size_t wanted = facts_of(node.op).inputs;
  if (wanted == 0) {
    if (inputs.empty()) refuse(node.op, "needs at least one input");
  } else if (inputs.size() != wanted) {
    refuse(node.op, "takes " + std::to_string(wanted) + " inputs and was given " + std::to_string(inputs.size()));
  }
  const Shape shape = shape_rules[static_cast<std::size_t>(node.op)](node, inputs);
  const bool empty = std::any_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent < 1; });
  if (empty || bounded_size(shape) > largest_extent) {
    refuse(node.op, "would have the shape " + text_of(shape) + "; extents must be 1 or more and fit int32");
  }
  return shape;
}

}  // namespace paretrim
