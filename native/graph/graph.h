// A network as plain values: the C++ twin of paretrim/graph/types.py. What each operation computes is written in
// docs/integer-graph.md. Shapes are without the batch: [C, H, W] or [F].
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace paretrim {

// The numbers are those that .trim files store.
enum class Dtype : std::uint8_t { float32, uint8, int8, int32, float16, bfloat16 };

std::size_t bytes_of(Dtype dtype);
std::string text_of(Dtype dtype);
bool is_float(Dtype dtype);  // of 32 or 16 bits

// Type of one value. A uint8 value q stands for scale * (q - zero_point).
struct ValueType {
  std::vector<std::int64_t> shape;
  Dtype dtype = Dtype::float32;  // float32 or uint8
  float scale = 1.0F;
  std::int32_t zero_point = 0;

  bool quantized() const { return dtype == Dtype::uint8; }
  std::int64_t size() const;
};

// A constant: weight, bias or table, row-major and little-endian as the machine is.
struct Tensor {
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;

  std::int64_t size() const;
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

using Attribute = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>>;

// The numbers are those that .trim files store.
enum class Op : std::uint8_t {
#define PARETRIM_OPERATION(name, ...) name,
#include "graph/operations.inc"
};

inline constexpr int op_count = 0
#define PARETRIM_OPERATION(...) +1
#include "graph/operations.inc"
    ;

// What an operation does to a grid: keeps that of its input, since it only moves or selects values; requantizes to one of its
// own; takes and gives floats only; turns pixels into floats; enters the grids, from floats or pixels; leaves them.
enum class GridRule : std::uint8_t { keeps, requantizes, float_only, pixels, enters, leaves };

// Which input scales make the multipliers of a requantization: each of them, their sum, or their product.
enum class Rescaling : std::uint8_t { none, each, sum, product };

// Multiply-adds of an operation for one image: one for each element of its result; the weight's elements for each pixel of it;
// the window's for each element; one for each element of the result or of the input, whichever are more; or the width of the
// first input for each element of the result.
enum class Work : std::uint8_t { result, weight, window, input, depth };

struct OpFacts {
  std::string_view name;
  std::size_t inputs;  // 0 for any number from 1
  GridRule grid;
  bool weighted;
  bool ships;  // false: only for training
  Rescaling rescaling;
  Work work;
};

const OpFacts& facts_of(Op op);
std::string_view name_of(Op op);
Op op_named(std::string_view name);  // throws unsupported_operation

// One operation; it produces one value. Value 0 is the input, value i + 1 is made by node i, and `inputs` are such numbers.
struct Node {
  std::string name;
  std::string layer;
  Op op = Op::relu;
  std::vector<std::uint32_t> inputs;
  ValueType type;
  std::map<std::string, Attribute, std::less<>> attributes;
  std::map<std::string, Tensor, std::less<>> tensors;
};

struct InputSpec {
  std::vector<std::int64_t> shape;
  std::vector<double> mean;  // one per channel, or none: then the input is float32 and already normalised
  std::vector<double> std;

  bool takes_pixels() const { return !std.empty(); }
};

struct Graph {
  InputSpec input;
  std::vector<Node> nodes;
  std::vector<std::uint32_t> outputs;  // numbers of the values that the network returns, in order
  std::vector<std::string> classes;    // of the logits of a network of one output, or none

  ValueType type_of(std::uint32_t value) const;
};

// Checks the structure of a graph, before there are bytes in its tensors: names, order, attributes, shapes, grids, and the
// types and shapes of all tensors. Throws as `validate`.
void check_structure(const Graph& graph);

// Checks everything the planner relies on, whoever made the graph: names, order, attributes, shapes, grids, tensors, and that no
// int32 accumulator can overflow. Throws unsupported_operation or corrupt_file with the node and its layer.
void validate(const Graph& graph);

}  // namespace paretrim
