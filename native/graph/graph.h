// A network as plain values; the counterpart of paretrim/graph/types.py. docs/integer-graph.md defines what each operation
// computes. Shapes have no batch axis: [C, H, W] or [F].
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "types/room.h"

namespace paretrim {

// .trim files store these numbers.
enum class Dtype : std::uint8_t { float32, uint8, int8, int32, float16, bfloat16 };

std::size_t bytes_of(Dtype dtype);
std::string text_of(Dtype dtype);
bool is_float(Dtype dtype);  // 32 or 16 bits

// Type of one value. A uint8 value q represents scale * (q - zero_point).
struct ValueType {
  std::vector<std::int64_t> shape;
  Dtype dtype = Dtype::float32;  // float32 or uint8
  float scale = 1.0F;
  std::int32_t zero_point = 0;

  bool quantized() const { return dtype == Dtype::uint8; }
  std::int64_t size() const;
};

// The bytes of a tensor: owned, or a read-only view of memory that is kept alive elsewhere.
class TensorBytes {
 public:
  TensorBytes() = default;
  explicit TensorBytes(std::size_t size) : own_(size) {}
  static TensorBytes view(const std::uint8_t* data, std::size_t size) {
    TensorBytes bytes;
    bytes.viewed_ = data;
    bytes.viewed_size_ = size;
    return bytes;
  }

  const std::uint8_t* data() const { return viewed_ ? viewed_ : own_.data(); }
  std::uint8_t* data() { return own_.data(); }
  std::size_t size() const { return viewed_ ? viewed_size_ : own_.size(); }
  bool empty() const { return size() == 0; }
  const std::uint8_t* begin() const { return data(); }
  const std::uint8_t* end() const { return data() + size(); }
  std::uint8_t operator[](std::size_t i) const { return data()[i]; }
  std::uint8_t& operator[](std::size_t i) { return own_[i]; }
  void resize(std::size_t size) { own_.resize(size); }

 private:
  Room<std::uint8_t> own_;
  const std::uint8_t* viewed_ = nullptr;
  std::size_t viewed_size_ = 0;
};

// A constant: weight, bias or table; row-major, and little-endian like all supported CPUs.
struct Tensor {
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;
  TensorBytes bytes;

  std::int64_t size() const;
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

using Attribute = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>>;

// .trim files store these numbers.
enum class Op : std::uint8_t {
#define PARETRIM_OPERATION(name, ...) name,
#include "graph/operations.inc"
};

inline constexpr int op_count = 0
#define PARETRIM_OPERATION(...) +1
#include "graph/operations.inc"
    ;

// What an operation does to the grid of its input.
enum class GridRule : std::uint8_t {
  keeps,        // same grid, because it only moves or selects values
  requantizes,  // its own output grid
  float_only,   // float input and output
  pixels,       // pixels to floats
  enters,       // quantizes floats or pixels
  leaves        // dequantizes
};

// How the multipliers of a requantization depend on the input scales: on each of them, on their sum, or on their product.
enum class Rescaling : std::uint8_t { none, each, sum, product };

// Multiply-adds of an operation for one image.
enum class Work : std::uint8_t {
  result,  // one per element of the result
  weight,  // the elements of the weight, per pixel of the result
  window,  // the elements of the window, per element of the result
  input,   // one per element of the result or of the input, whichever has more
  depth    // the width of the first input, per element of the result
};

// What the weight of an operation multiplies: a vector, or the windows that slide over an image.
enum class Multiplies : std::uint8_t { nothing, vector, windows };

struct OpFacts {
  std::string_view name;
  std::size_t inputs;  // 0: any number, at least 1
  GridRule grid;
  Multiplies multiplies;
  bool ships;  // false: only used in training
  Rescaling rescaling;
  Work work;

  constexpr bool weighted() const { return multiplies != Multiplies::nothing; }
};

const OpFacts& facts_of(Op op);
std::string_view name_of(Op op);
Op op_named(std::string_view name);  // throws unsupported_operation

// One operation, which produces one value. Values are numbered: 0 is the input, i + 1 is the result of node i. `inputs` holds
// value numbers.
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
  std::vector<double> mean;  // one per channel; empty if the input is float32 and already normalised
  std::vector<double> std;

  bool takes_pixels() const { return !std.empty(); }
};

struct Graph {
  InputSpec input;
  std::vector<Node> nodes;
  std::vector<std::uint32_t> outputs;  // numbers of the values that the network returns, in order
  std::vector<std::string> classes;    // class names of the single output, or empty

  ValueType type_of(std::uint32_t value) const;
};

// Checks the structure of a graph, without the contents of its tensors: names, order, attributes, shapes, grids, and the types
// and shapes of all tensors. Throws like `validate`.
void check_structure(const Graph& graph);

// Checks everything that the planner relies on: names, order, attributes, shapes, grids, tensors, and that no int32 accumulator
// can overflow. Throws unsupported_operation or corrupt_file, naming the node and its layer.
void validate(const Graph& graph);

}  // namespace paretrim
