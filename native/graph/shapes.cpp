#include "graph/shapes.h"

#include <algorithm>
#include <array>

#include "graph/attributes.h"
#include "types/error.h"

// Attributes and extents of accepted shapes are at most largest_extent = 2**31 - 1, so that a product of two of them and a sum of
// three fit int64; products of more go through bounded_size.
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
  if (found == node.tensors.end()) refuse(node.op, "lacks the tensor 'weight'");
  const Shape& shape = found->second.shape;
  if (shape.size() != dimensions) {
    refuse(node.op, "has a weight of shape " + text_of(shape) + "; it must have " + std::to_string(dimensions) + " dimensions");
  }
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent < 1; })) {
    refuse(node.op, "has an empty weight of shape " + text_of(shape));
  }
  return shape;
}

// Extents after sliding a window; `inside` demands that every window touches the image itself.
Shape slide(const Node& node, const Shape& shape, Pair window, bool inside) {
  const Pair stride = pair(node, "stride");
  const Pair dilation = node.op == Op::avg_pool ? Pair{} : pair(node, "dilation");
  const Edges padding = edges(node, "padding");
  const auto along = [&](std::int64_t extent, std::int64_t size, std::int64_t step, std::int64_t spread, std::int64_t before,
                         std::int64_t after) {
    const std::int64_t reach = (size - 1) * spread + 1;
    const std::int64_t padded = extent + before + after;
    if (padded > largest_extent || reach > padded) {
      refuse(node.op, "with a window that reaches " + std::to_string(reach) + " does not fit an extent of " +
                          std::to_string(extent) + " padded to " + std::to_string(padded));
    }
    if (inside && std::max(before, after) >= reach) {
      refuse(node.op, "pads " + std::to_string(before) + " and " + std::to_string(after) + "; a window that reaches " +
                          std::to_string(reach) + " would see padding only");
    }
    return (padded - reach) / step + 1;
  };
  const std::int64_t down = along(shape[1], window.vertical, stride.vertical, dilation.vertical, padding.top, padding.bottom);
  const std::int64_t across =
      along(shape[2], window.horizontal, stride.horizontal, dilation.horizontal, padding.left, padding.right);
  const Shape padded = {shape[0], shape[1] + padding.top + padding.bottom, shape[2] + padding.left + padding.right};
  if (bounded_size(padded) > largest_extent) {
    refuse(node.op, "pads its input to " + text_of(padded) + ", more elements than int32 can index");
  }
  return {shape[0], down, across};
}

Shape convolution(const Node& node, const Shape& input) {
  const Shape& shape = image(node, input);
  const Shape& weight = weight_shape(node, 4);
  const std::int64_t groups = integer(node, "groups");
  if (weight[1] * groups != shape[0] || weight[0] % groups != 0) {
    refuse(node.op, "weight " + text_of(weight) + " in " + std::to_string(groups) + " groups does not fit " +
                        std::to_string(shape[0]) + " input channels");
  }
  Shape result = slide(node, shape, {weight[2], weight[3]}, false);
  result[0] = weight[0];
  return result;
}

Shape linear(const Node& node, const Shape& input) {
  const Shape& weight = weight_shape(node, 2);
  if (input != Shape{weight[1]}) {
    refuse(node.op, "weight " + text_of(weight) + " does not fit the input " + text_of(input) + "; flatten it first");
  }
  return {weight[0]};
}

Shape pool(const Node& node, const Shape& input) {
  const Shape& shape = image(node, input);
  if (node.op == Op::avg_pool) {
    const Edges padding = edges(node, "padding");
    const Edges counted = edges(node, "count_padding");
    if (counted.top > padding.top || counted.left > padding.left || counted.bottom > padding.bottom ||
        counted.right > padding.right) {
      refuse(node.op,
             "counts " + edges_text(counted) + " of the padding " + edges_text(padding) + "; it cannot count more than there is");
    }
  }
  return slide(node, shape, pair(node, "window"), true);
}

Shape product_shape(const Node& node, const Shape& first, const Shape& second) {
  if (first == second) return first;
  const auto scales = [](const Shape& factor, const Shape& whole) {
    return whole.size() == 3 && factor == Shape{whole[0], 1, 1};
  };
  if (scales(second, first)) return first;
  if (scales(first, second)) return second;
  refuse(node.op,
         "needs equal shapes, or [C, 1, 1] against [C, H, W], and was given " + text_of(first) + " and " + text_of(second));
}

Shape joined(const Node& node, const std::vector<Shape>& inputs) {
  Shape result = inputs[0];
  if (result.empty()) refuse(node.op, "joins channels and was given " + text_of(result));
  for (std::size_t index = 1; index < inputs.size(); ++index) {
    const Shape& shape = inputs[index];
    if (shape.size() != result.size() || !std::equal(shape.begin() + 1, shape.end(), result.begin() + 1)) {
      refuse(node.op, "joins channels of equal maps and was given " + text_of(inputs[0]) + " and " + text_of(shape));
    }
    // One step at a time, so that any number of inputs stays within int64.
    result[0] = std::min(result[0] + shape[0], largest_extent + 1);
  }
  return result;
}

Shape sliced(const Node& node, const Shape& input) {
  const std::int64_t axis = integer(node, "axis");
  const std::int64_t start = integer(node, "start");
  const std::int64_t stop = integer(node, "stop");
  const std::int64_t step = integer(node, "step");
  const bool on_axis = axis < static_cast<std::int64_t>(input.size());
  if (!on_axis || start >= stop || stop > input[static_cast<std::size_t>(axis)]) {
    refuse(node.op, std::to_string(start) + ":" + std::to_string(stop) + ":" + std::to_string(step) + " of axis " +
                        std::to_string(axis) + " leaves the input " + text_of(input));
  }
  Shape result = input;
  result[static_cast<std::size_t>(axis)] = (stop - start - 1) / step + 1;
  return result;
}

Shape padded(const Node& node, const Shape& input) {
  Shape result = image(node, input);
  const std::vector<std::int64_t> before = integers(node, "before");
  const std::vector<std::int64_t> after = integers(node, "after");
  for (std::size_t axis = 0; axis < result.size(); ++axis) result[axis] += before[axis] + after[axis];
  return result;
}

Shape computed(const Node& node, const std::vector<Shape>& inputs) {
  const Shape& first = inputs[0];
  switch (node.op) {
    case Op::conv2d:
      return convolution(node, first);
    case Op::linear:
      return linear(node, first);
    case Op::add:
      if (first == inputs[1]) return first;
      refuse(node.op, "needs two equal shapes and was given " + text_of(first) + " and " + text_of(inputs[1]));
    case Op::mul:
      return product_shape(node, first, inputs[1]);
    case Op::concat:
      return joined(node, inputs);
    case Op::slice:
      return sliced(node, first);
    case Op::pad:
      return padded(node, first);
    case Op::channel_shuffle:
      if (image(node, first)[0] % integer(node, "groups") == 0) return first;
      refuse(node.op, "in " + std::to_string(integer(node, "groups")) + " groups does not divide " + std::to_string(first[0]) +
                          " channels");
    case Op::flatten:
      return {bounded_size(first)};
    case Op::unflatten:
      if (first.size() == 1) return {first[0], 1, 1};
      refuse(node.op, "needs an input [C] and was given " + text_of(first));
    case Op::max_pool:
    case Op::avg_pool:
      return pool(node, first);
    case Op::adaptive_avg_pool: {
      const Pair size = pair(node, "output_size");
      return {image(node, first)[0], size.vertical, size.horizontal};
    }
    case Op::normalize:
    case Op::quantize:
    case Op::dequantize:
    case Op::batch_norm:
    case Op::relu:
    case Op::clamp:
    case Op::pointwise:
    case Op::dropout:
      return first;
  }
  refuse(node.op, "is no operation of a graph");
}

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
  Shape shape = computed(node, inputs);
  const bool empty = std::any_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent < 1; });
  if (empty || bounded_size(shape) > largest_extent) {
    refuse(node.op, "would have the shape " + text_of(shape) + "; extents must be 1 or more and fit int32");
  }
  return shape;
}

}  // namespace paretrim
