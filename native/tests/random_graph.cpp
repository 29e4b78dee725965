#include "tests/random_graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "graph/functions.h"
#include "graph/shapes.h"

namespace paretrim::test {
namespace {

template <typename T>
Tensor tensor(Dtype dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  Tensor result{dtype, std::move(shape), TensorBytes(values.size() * sizeof(T))};
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

using List = std::vector<std::int64_t>;

class Builder {
 public:
  explicit Builder(std::uint64_t seed) : random_(seed) {}

  Graph build() {
    graph_.input.shape = {random_.between(1, 12), random_.between(1, 17), random_.between(1, 17)};
    if (random_.chance(70)) {
      for (std::int64_t channel = 0; channel < graph_.input.shape[0]; ++channel) {
        graph_.input.mean.push_back(0.5);
        graph_.input.std.push_back(0.25);
      }
    }
    std::uint32_t x = convolution(start());
    for (std::int64_t block = random_.between(1, 7); block > 0; --block) x = grown(x);
    graph_.outputs.push_back(head(x));
    for (std::int64_t more = random_.chance(30) ? random_.between(1, 3) : 0; more > 0; --more) {
      graph_.outputs.push_back(head(any_map()));
    }
    return std::move(graph_);
  }

 private:
  const ValueType& type(std::uint32_t value) const { return graph_.nodes[value - 1].type; }

  ValueType grid(float scale) {
    return {{}, Dtype::uint8, scale, static_cast<std::int32_t>(random_.chance(30) ? 0 : random_.between(0, 255))};
  }

  std::uint32_t add(Node node) {
    std::vector<Shape> shapes;
    for (const std::uint32_t value : node.inputs) shapes.push_back(graph_.type_of(value).shape);
    node.type.shape = infer_shape(node, shapes);
    // Products of many maps would leave float32 in either direction.
    node.type.scale = std::clamp(node.type.scale, 1e-9F, 1e9F);
    node.name = std::string(name_of(node.op)) + "_" + std::to_string(graph_.nodes.size());
    graph_.nodes.push_back(std::move(node));
    return static_cast<std::uint32_t>(graph_.nodes.size());
  }

  Node node(Op op, std::vector<std::uint32_t> inputs, ValueType kind) {
    Node made;
    made.op = op;
    made.inputs = std::move(inputs);
    made.type = std::move(kind);
    return made;
  }

  // Adds an operation that only moves values and keeps the grid.
  Node moving(Op op, std::uint32_t x) { return node(op, {x}, type(x)); }

  void clamp(Node& made) {
    if (random_.chance(60)) return;
    const std::int64_t low = random_.chance(50) ? made.type.zero_point : random_.between(0, 255);
    made.attributes["lo"] = low;
    if (random_.chance(40)) made.attributes["hi"] = random_.between(low, 255);
  }

  std::uint32_t start() {
    Node made = node(Op::quantize, {0}, grid(0.02F));
    if (graph_.input.takes_pixels()) {
      made.tensors["table"] = tensor(Dtype::uint8, {graph_.input.shape[0], 256}, pixel_table(graph_.input, made.type));
    }
    return add(std::move(made));
  }

  void weigh(Node& made, const List& shape) {
    std::int64_t depth = 1;
    for (std::size_t axis = 1; axis < shape.size(); ++axis) depth *= shape[axis];
    const auto outputs = static_cast<std::size_t>(shape[0]);
    std::vector<std::int8_t> weight(outputs * static_cast<std::size_t>(depth));
    const int zeros = static_cast<int>(random_.chance(50) ? random_.between(0, 100) : 30);
    const bool blocks = random_.chance(50);  // prune 1x4 blocks, the unit of the kernels
    bool zero = false;
    for (std::size_t at = 0; at < weight.size(); ++at) {
      if (!blocks || at % 4 == 0) zero = random_.chance(zeros);
      weight[at] = zero ? std::int8_t{0} : static_cast<std::int8_t>(random_.between(-127, 127));
    }
    std::vector<float> scale(outputs);
    std::vector<std::int32_t> bias(outputs);
    for (std::size_t output = 0; output < outputs; ++output) {
      scale[output] = random_.real(0.002F, 0.02F);
      bias[output] = static_cast<std::int32_t>(random_.between(-20000, 20000));
    }
    const float source = type(made.inputs[0]).scale;
    made.type.scale = source * 0.01F * std::sqrt(static_cast<float>(depth)) * random_.real(30.0F, 120.0F);
    made.tensors["weight"] = tensor(Dtype::int8, shape, weight);
    made.tensors["weight_scale"] = tensor(Dtype::float32, {shape[0]}, scale);
    made.tensors["bias"] = tensor(Dtype::int32, {shape[0]}, bias);
    if (made.type.quantized()) clamp(made);
  }

  std::uint32_t convolution(std::uint32_t x, bool pointwise = false, std::int64_t outputs = 0) {
    const Shape& shape = type(x).shape;
    Node made = node(Op::conv2d, {x}, grid(1.0F));
    std::int64_t groups = 1;
    if (outputs == 0) {
      while (random_.chance(25) && shape[0] % (groups * 2) == 0) groups *= 2;
      if (random_.chance(15)) groups = shape[0];
      outputs = groups * random_.between(1, std::max<std::int64_t>(1, 40 / groups));
    }
    List window = {1, 1};
    if (!pointwise) {
      List padding(4), stride(2), dilation(2);
      for (std::size_t axis = 0; axis < 2; ++axis) {
        window[axis] = random_.between(1, 4);
        stride[axis] = random_.chance(70) ? 1 : random_.between(1, 3);
        dilation[axis] = random_.chance(80) ? 1 : random_.between(1, 3);
        padding[axis] = random_.between(0, 2);
        padding[axis + 2] = random_.between(0, 2);
        if (shape[axis + 1] + padding[axis] + padding[axis + 2] < (window[axis] - 1) * dilation[axis] + 1) window[axis] = 1;
      }
      made.attributes["padding"] = padding;
      made.attributes["stride"] = stride;
      made.attributes["dilation"] = dilation;
    }
    made.attributes["groups"] = groups;
    weigh(made, {outputs, shape[0] / groups, window[0], window[1]});
    return add(std::move(made));
  }

  std::uint32_t pool(std::uint32_t x) {
    const Shape& shape = type(x).shape;
    if (random_.chance(20)) {
      Node made = node(Op::adaptive_avg_pool, {x}, grid(type(x).scale));
      made.attributes["output_size"] = List{random_.between(1, shape[1]), random_.between(1, shape[2])};
      clamp(made);
      return add(std::move(made));
    }
    const bool largest = random_.chance(50);
    Node made = largest ? moving(Op::max_pool, x) : node(Op::avg_pool, {x}, grid(type(x).scale));
    List window(2), padding(4), counted(4);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      window[axis] = random_.between(1, std::min<std::int64_t>(4, shape[axis + 1]));
      for (const std::size_t side : {axis, axis + 2}) {
        padding[side] = random_.between(0, window[axis] - 1);
        counted[side] = random_.between(0, padding[side]);
      }
    }
    made.attributes["window"] = window;
    made.attributes["stride"] = List{random_.between(1, 3), random_.between(1, 3)};
    made.attributes["padding"] = padding;
    if (!largest) {
      made.attributes["count_padding"] = counted;
      clamp(made);
    }
    return add(std::move(made));
  }

  std::uint32_t pointwise(std::uint32_t x) {
    Node made = node(Op::pointwise, {x}, grid(type(x).scale));
    // Only exact arithmetic: functions such as tanh may differ by a step between math libraries, and digests are compared.
    const std::vector<FunctionName> functions = exact_functions();
    const FunctionName& chosen =
        functions[static_cast<std::size_t>(random_.between(0, static_cast<std::int64_t>(functions.size()) - 1))];
    made.attributes["function"] = std::string(chosen.name);
    if (chosen.takes_constant) made.attributes["constant"] = static_cast<double>(random_.real(-1.5F, 1.5F));
    made.tensors["table"] = tensor(Dtype::uint8, {256}, pointwise_table(made, type(x)));
    return add(std::move(made));
  }

  std::uint32_t batch_norm(std::uint32_t x) {
    Node made = node(Op::batch_norm, {x}, grid(type(x).scale));
    std::vector<float> multiplier, offset;
    for (std::int64_t channel = 0; channel < type(x).shape[0]; ++channel) {
      multiplier.push_back(random_.real(-1.0F, 2.0F));
      offset.push_back(random_.real(-50.0F, 50.0F));
    }
    made.tensors["multiplier"] = tensor(Dtype::float32, {type(x).shape[0]}, multiplier);
    made.tensors["offset"] = tensor(Dtype::float32, {type(x).shape[0]}, offset);
    clamp(made);
    return add(std::move(made));
  }

  std::uint32_t joined(Op op, std::uint32_t x, std::uint32_t y) {
    ValueType kind = grid(type(x).scale * random_.real(0.5F, 2.0F));
    if (op == Op::mul) kind.scale = type(x).scale * type(y).scale * random_.real(50.0F, 200.0F);
    if (op == Op::concat && random_.chance(50)) kind = type(x);
    Node made = node(op, {x, y}, kind);
    if (op != Op::concat) clamp(made);
    return add(std::move(made));
  }

  std::uint32_t sliced(std::uint32_t x) {
    Node made = moving(Op::slice, x);
    const std::int64_t axis = random_.between(0, 2);
    const std::int64_t extent = type(x).shape[static_cast<std::size_t>(axis)];
    const std::int64_t start = random_.between(0, extent / 2);
    made.attributes["axis"] = axis;
    made.attributes["start"] = start;
    made.attributes["stop"] = random_.between(start + 1, extent);
    made.attributes["step"] = random_.chance(10) ? std::int64_t{2147483647} : random_.between(1, 3);
    return add(std::move(made));
  }

  std::uint32_t padded(std::uint32_t x) {
    Node made = moving(Op::pad, x);
    made.attributes["before"] = List{random_.between(0, 3), random_.between(0, 2), random_.between(0, 2)};
    made.attributes["after"] = List{random_.between(0, 3), random_.between(0, 2), random_.between(0, 2)};
    return add(std::move(made));
  }

  std::uint32_t shuffled(std::uint32_t x) {
    Node made = moving(Op::channel_shuffle, x);
    std::int64_t groups = random_.between(1, type(x).shape[0]);
    while (type(x).shape[0] % groups != 0) --groups;
    made.attributes["groups"] = groups;
    return add(std::move(made));
  }

  std::uint32_t pixels_shuffled(std::uint32_t x) {
    const Shape& shape = type(x).shape;
    const std::int64_t down = shape[1] > 24 ? 1 : random_.between(1, 3), across = shape[2] > 24 ? 1 : random_.between(1, 3);
    Node made = moving(Op::pixel_shuffle, convolution(x, true, down * across * random_.between(1, 9)));
    made.attributes["factor"] = List{down, across};
    const std::uint32_t spread = add(std::move(made));
    if (random_.chance(50)) return spread;
    const Shape& wide = type(spread).shape;
    List factor{random_.between(1, 4), random_.between(1, 4)};
    for (std::size_t axis = 0; axis < 2; ++axis) {
      while (wide[axis + 1] % factor[axis] != 0) --factor[axis];
    }
    Node back = moving(Op::pixel_unshuffle, spread);
    back.attributes["factor"] = factor;
    return add(std::move(back));
  }

  std::uint32_t gated(std::uint32_t x) {
    Node made = node(Op::adaptive_avg_pool, {x}, grid(type(x).scale));
    made.attributes["output_size"] = List{1, 1};
    const std::uint32_t gate = convolution(add(std::move(made)), true, type(x).shape[0]);
    return random_.chance(50) ? joined(Op::mul, x, gate) : joined(Op::mul, gate, x);
  }

  // Multiplies two maps of the same height and width, in either order.
  std::uint32_t multiplied(std::uint32_t x) {
    const std::uint32_t y = convolution(x, true, type(x).shape[0]);
    ValueType kind = grid(type(x).scale * type(y).scale * random_.real(200.0F, 2000.0F));
    Node scores = node(Op::matmul, {x, y}, kind);
    scores.attributes["transposed"] = std::int64_t{1};
    clamp(scores);
    const std::uint32_t made = add(std::move(scores));
    if (random_.chance(40)) return made;
    // In separate statements, because the evaluation order of arguments is unspecified.
    const std::uint32_t second = random_.chance(50) ? x : y;
    const ValueType scaled = grid(type(made).scale * random_.real(0.5F, 20.0F));
    Node mixed = node(Op::matmul, {made, second}, scaled);
    clamp(mixed);
    return add(std::move(mixed));
  }

  std::uint32_t grown(std::uint32_t x) {
    switch (random_.between(0, 15)) {
      case 4:
        return joined(Op::add, x, convolution(x, true, type(x).shape[0]));
      case 5:
        return joined(Op::concat, x, convolution(x, true));
      case 6:
        return joined(Op::mul, convolution(x, true, type(x).shape[0]), x);
      case 7:
        return gated(x);
      case 8:
        return pool(x);
      case 9:
        return random_.chance(50) ? pointwise(x) : add(moving(Op::relu, x));
      case 10:
        return batch_norm(x);
      case 11:
        return sliced(x);
      case 12:
        return padded(x);
      case 13:
        return multiplied(x);
      case 14:
        return pixels_shuffled(x);
      case 15:
        return shuffled(x);
      default:
        return convolution(x);
    }
  }

  std::uint32_t any_map() {
    while (true) {
      const auto value = static_cast<std::uint32_t>(random_.between(1, static_cast<std::int64_t>(graph_.nodes.size())));
      if (type(value).quantized() && type(value).shape.size() == 3) return value;
    }
  }

  std::uint32_t head(std::uint32_t x) {
    x = add(moving(Op::flatten, x));
    if (random_.chance(30)) x = add(moving(Op::flatten, add(moving(Op::unflatten, x))));
    if (random_.chance(80)) {
      Node made = node(Op::linear, {x}, random_.chance(80) ? ValueType{} : grid(1.0F));
      const bool quantized = made.type.quantized();
      weigh(made, {random_.between(1, 12), type(x).shape[0]});
      if (!quantized) made.type.scale = 1.0F;
      x = add(std::move(made));
    }
    if (type(x).quantized()) x = add(node(Op::dequantize, {x}, ValueType{}));
    return x;
  }

  Random random_;
  Graph graph_;
};

}  // namespace

Graph random_graph(std::uint64_t seed) { return Builder(seed).build(); }

std::vector<std::uint8_t> random_images(const Graph& graph, std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::int64_t size = count;
  for (const std::int64_t extent : graph.input.shape) size *= extent;
  const bool pixels = graph.input.takes_pixels();
  const bool clipped = graph.nodes[0].op == Op::quantize;  // otherwise very large values would overflow
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size) * (pixels ? 1 : sizeof(float)));
  for (std::int64_t at = 0; at < size; ++at) {
    if (pixels) {
      bytes[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(random.next());
    } else {
      const float value = clipped && random.chance(1) ? random.real(-1e30F, 1e30F) : random.real(-3.0F, 3.0F);
      std::memcpy(bytes.data() + static_cast<std::size_t>(at) * sizeof(float), &value, sizeof value);
    }
  }
  return bytes;
}

}  // namespace paretrim::test
