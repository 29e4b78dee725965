#include "trim/structure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "trim/bytes.h"
#include "trim/utf8.h"
#include "trim/versions.h"

namespace paretrim::trim {
namespace {

constexpr std::uint64_t max_nodes = 1 << 16, max_inputs = 1 << 10, max_classes = 1 << 20, max_named = 32, max_listed = 64;
constexpr std::uint64_t max_channels = 1 << 16, max_rank = 8, longest_text = 1 << 12, most_of_names = 1 << 24;
constexpr std::uint64_t largest_extent = (std::uint64_t{1} << 31) - 1;

// Common names of attributes and tensors, stored as numbers; other names are stored as text. The order is part of the format, so
// only append.
constexpr std::array<std::string_view, 31> names = {
    "after",   "axis",       "before", "beta",        "bias",    "constant",     "count_padding", "dilation",
    "epsilon", "function",   "gamma",  "groups",      "hi",      "lo",           "maximum",       "mean",
    "minimum", "multiplier", "offset", "output_size", "padding", "probability",  "start",         "step",
    "stop",    "stride",     "table",  "variance",    "weight",  "weight_scale", "window"};

enum Flag : std::uint8_t {
  layer_is_name = 1,   // the layer is called like the node
  follows = 2,         // the only input is the previous value
  quantized = 4,       // uint8; otherwise float32
  shape_of_input = 8,  // same shape as the first input
  grid_of_input = 16,  // uint8: same scale and zero point as the first input; float32: 1 and 0
  known_flags = 31
};

enum class Kind : std::uint8_t { integer, real, truth, text, integers };
enum class Real : std::uint8_t { whole, decimal, bits };

constexpr std::array<double, 16> powers_of_ten = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
constexpr double exact_integers = 9007199254740992.0;  // 2**53

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// A float64 in few bytes: an integer, an integer divided by a power of ten (one correctly rounded division), or its raw bits.
void put_real(ByteWriter& writer, double value) {
  for (std::size_t digits = 0; digits < powers_of_ten.size(); ++digits) {
    const double scaled = std::rint(value * powers_of_ten[digits]);
    if (!(std::fabs(scaled) < exact_integers)) break;
    if (!same_bits(static_cast<double>(static_cast<std::int64_t>(scaled)) / powers_of_ten[digits], value)) continue;
    writer.byte(static_cast<std::uint8_t>(digits == 0 ? Real::whole : Real::decimal));
    if (digits > 0) writer.byte(static_cast<std::uint8_t>(digits));
    return writer.integer(static_cast<std::int64_t>(scaled));
  }
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  writer.byte(static_cast<std::uint8_t>(Real::bits));
  writer.fixed(bits, 8);
}

double take_real(ByteReader& reader) {
  const std::uint8_t form = reader.byte();
  if (form == static_cast<std::uint8_t>(Real::bits)) {
    const std::uint64_t bits = reader.fixed(8);
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  if (form > static_cast<std::uint8_t>(Real::bits))
    corrupt("a number has the form " + std::to_string(form) + "; it must be 0, 1 or 2");
  const std::size_t digits = form == static_cast<std::uint8_t>(Real::whole) ? 0 : reader.byte();
  if (digits >= powers_of_ten.size()) corrupt("a number has " + std::to_string(digits) + " decimals; the maximum is 15");
  return static_cast<double>(reader.integer("a number")) / powers_of_ten[digits];
}

void put_reals(ByteWriter& writer, const std::vector<double>& values) {
  writer.number(values.size());
  for (const double value : values) put_real(writer, value);
}

std::vector<double> take_reals(ByteReader& reader) {
  std::vector<double> values(reader.number(std::min<std::uint64_t>(max_channels, reader.left()), "a number of channels"));
  for (double& value : values) value = take_real(reader);
  return values;
}

std::string take_text(ByteReader& reader) {
  const std::size_t size = reader.number(longest_text, "the length of a text");
  const std::string text(reinterpret_cast<const char*>(reader.take(size)), size);
  if (!is_utf8(text)) corrupt("a text in it is not valid UTF-8");
  return text;
}

void put_shape(ByteWriter& writer, const std::vector<std::int64_t>& shape) {
  writer.number(shape.size());
  for (const std::int64_t extent : shape) writer.number(static_cast<std::uint64_t>(extent));
}

std::vector<std::int64_t> take_shape(ByteReader& reader) {
  std::vector<std::int64_t> shape(reader.number(max_rank, "the number of axes"));
  std::uint64_t size = 1;
  for (std::int64_t& extent : shape) {
    extent = static_cast<std::int64_t>(reader.number(largest_extent, "an extent"));
    if (extent > 0) size *= static_cast<std::uint64_t>(extent);
    if (size > largest_extent) corrupt("a shape has more than 2**31 - 1 elements");
  }
  return shape;
}

// A name, stored as the length of the prefix it shares with another name, and the rest.
void put_name(ByteWriter& writer, const std::string& name, const std::string& before) {
  const auto ends = std::mismatch(name.begin(), name.end(), before.begin(), before.end());
  const auto shared = static_cast<std::size_t>(ends.first - name.begin());
  writer.number(shared);
  writer.text(std::string_view(name).substr(shared));
}

std::string take_name(ByteReader& reader, const std::string& before) {
  const std::size_t shared = reader.number(before.size(), "the length of the common beginning of two names");
  const std::size_t size = reader.number(longest_text - shared, "the length of a name");
  std::string name = before.substr(0, shared) + std::string(reinterpret_cast<const char*>(reader.take(size)), size);
  if (!is_utf8(name)) corrupt("a name in it is not valid UTF-8");
  return name;
}

void put_key(ByteWriter& writer, const std::string& key) {
  const auto found = std::find(names.begin(), names.end(), key);
  writer.number(found == names.end() ? 0 : static_cast<std::uint64_t>(found - names.begin()) + 1);
  if (found == names.end()) writer.text(key);
}

std::string take_key(ByteReader& reader) {
  const std::uint64_t number = reader.number(names.size(), "a key");
  return number == 0 ? take_text(reader) : std::string(names[number - 1]);
}

void put_attribute(ByteWriter& writer, const Attribute& attribute) {
  writer.byte(static_cast<std::uint8_t>(attribute.index()));
  switch (static_cast<Kind>(attribute.index())) {
    case Kind::integer:
      return writer.integer(std::get<std::int64_t>(attribute));
    case Kind::real:
      return put_real(writer, std::get<double>(attribute));
    case Kind::truth:
      return writer.byte(std::get<bool>(attribute));
    case Kind::text:
      return writer.text(std::get<std::string>(attribute));
    case Kind::integers:
      break;
  }
  const auto& values = std::get<std::vector<std::int64_t>>(attribute);
  writer.number(values.size());
  for (const std::int64_t value : values) writer.integer(value);
}

Attribute take_attribute(ByteReader& reader) {
  const std::uint8_t kind = reader.byte();
  switch (static_cast<Kind>(kind)) {
    case Kind::integer:
      return reader.integer("an attribute");
    case Kind::real:
      return take_real(reader);
    case Kind::truth:
      return reader.number(1, "a truth value") != 0;
    case Kind::text:
      return take_text(reader);
    case Kind::integers: {
      std::vector<std::int64_t> values(reader.number(max_listed, "the length of a list"));
      for (std::int64_t& value : values) value = reader.integer("an attribute");
      return values;
    }
  }
  corrupt("an attribute has the kind " + std::to_string(kind) + "; it must be 0 to 4");
}

std::uint8_t flags_of(const Graph& graph, std::uint32_t value) {
  const Node& node = graph.nodes[value - 1];
  const bool is_quantized = node.type.quantized();
  const ValueType first = node.inputs.empty() ? ValueType{} : graph.type_of(node.inputs[0]);
  const float scale = is_quantized ? first.scale : 1.0F;
  const std::int32_t zero_point = is_quantized ? first.zero_point : 0;
  int flags = is_quantized ? quantized : 0;
  if (node.layer == node.name) flags |= layer_is_name;
  if (node.inputs.size() == 1 && node.inputs[0] + 1 == value) flags |= follows;
  if (!node.inputs.empty() && node.type.shape == first.shape) flags |= shape_of_input;
  const bool has_grid = !is_quantized || (!node.inputs.empty() && first.quantized());
  if (has_grid && std::memcmp(&node.type.scale, &scale, sizeof scale) == 0 && node.type.zero_point == zero_point) {
    flags |= grid_of_input;
  }
  return static_cast<std::uint8_t>(flags);
}

void put_node(ByteWriter& writer, const Graph& graph, std::uint32_t value) {
  const Node& node = graph.nodes[value - 1];
  const std::uint8_t flags = flags_of(graph, value);
  writer.byte(static_cast<std::uint8_t>(node.op));
  writer.byte(flags);
  put_name(writer, node.name, value == 1 ? std::string() : graph.nodes[value - 2].name);
  if (!(flags & layer_is_name)) put_name(writer, node.layer, node.name);
  if (!(flags & follows)) {
    writer.number(node.inputs.size());
    for (const std::uint32_t input : node.inputs) writer.number(value - input - 1);
  }
  if (!(flags & shape_of_input)) put_shape(writer, node.type.shape);
  if (!(flags & grid_of_input)) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &node.type.scale, sizeof bits);
    writer.fixed(bits, 4);
    writer.integer(node.type.zero_point);
  }
  writer.number(node.attributes.size());
  for (const auto& [key, attribute] : node.attributes) {
    put_key(writer, key);
    put_attribute(writer, attribute);
  }
  writer.number(node.tensors.size());
  for (const auto& [key, tensor] : node.tensors) {
    put_key(writer, key);
    writer.byte(static_cast<std::uint8_t>(tensor.dtype));
    put_shape(writer, tensor.shape);
  }
}

void take_grid(ByteReader& reader, ValueType& type) {
  const auto bits = static_cast<std::uint32_t>(reader.fixed(4));
  std::memcpy(&type.scale, &bits, sizeof bits);
  const std::int64_t zero_point = reader.integer("a zero point");
  if (zero_point < INT32_MIN || zero_point > INT32_MAX) corrupt("a zero point is " + std::to_string(zero_point));
  type.zero_point = static_cast<std::int32_t>(zero_point);
}

// Keys must ascend, which also excludes duplicates.
void require_order(const std::string& before, const std::string& key, bool first) {
  if (!first && key <= before) corrupt("the name '" + key + "' follows '" + before + "'; names must ascend without duplicates");
}

void take_named(ByteReader& reader, Node& node) {
  std::string before;
  const std::uint64_t attributes = reader.number(max_named, "the number of attributes");
  for (std::uint64_t i = 0; i < attributes; ++i) {
    const std::string key = take_key(reader);
    require_order(before, key, i == 0);
    node.attributes.emplace(key, take_attribute(reader));
    before = key;
  }
  const std::uint64_t tensors = reader.number(max_named, "the number of tensors");
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::string key = take_key(reader);
    require_order(before, key, i == 0);
    Tensor tensor;
    const std::uint8_t dtype = reader.byte();
    if (dtype > static_cast<std::uint8_t>(Dtype::bfloat16)) corrupt("tensor '" + key + "' has the type " + std::to_string(dtype));
    tensor.dtype = static_cast<Dtype>(dtype);
    tensor.shape = take_shape(reader);
    node.tensors.emplace(key, std::move(tensor));
    before = key;
  }
}

Node take_node(ByteReader& reader, const Graph& graph) {
  const auto value = static_cast<std::uint32_t>(graph.nodes.size() + 1);
  Node node;
  const std::uint8_t op = reader.byte();
  if (op >= op_count) corrupt("it has the operation " + std::to_string(op) + ", of " + std::to_string(op_count));
  node.op = static_cast<Op>(op);
  const std::uint8_t flags = reader.byte();
  if (flags & ~known_flags) corrupt("it has the flags " + std::to_string(flags) + ", some of which are undefined");
  node.name = take_name(reader, value == 1 ? std::string() : graph.nodes.back().name);
  node.layer = flags & layer_is_name ? node.name : take_name(reader, node.name);
  if (flags & follows) {
    node.inputs = {value - 1};
  } else {
    node.inputs.resize(reader.number(std::min<std::uint64_t>(max_inputs, reader.left()), "the number of inputs"));
    for (std::uint32_t& input : node.inputs) {
      input = value - 1 - static_cast<std::uint32_t>(reader.number(value - 1, "the distance to an input"));
    }
  }
  const bool takes_after = flags & shape_of_input || (flags & grid_of_input && flags & quantized);
  if (node.inputs.empty() && takes_after) corrupt("it copies its input's shape or grid but has no input");
  const ValueType first = node.inputs.empty() ? ValueType{} : graph.type_of(node.inputs[0]);
  node.type.dtype = flags & quantized ? Dtype::uint8 : Dtype::float32;
  node.type.shape = flags & shape_of_input ? first.shape : take_shape(reader);
  if (!(flags & grid_of_input)) {
    take_grid(reader, node.type);
  } else if (flags & quantized) {
    node.type.scale = first.scale;
    node.type.zero_point = first.zero_point;
  }
  take_named(reader, node);
  return node;
}

}  // namespace

std::uint64_t elements_of(const Tensor& tensor) {
  std::uint64_t size = 1;
  for (const std::int64_t extent : tensor.shape) size *= static_cast<std::uint64_t>(extent);
  return size;
}

std::uint64_t bytes_of(const Tensor& tensor) { return elements_of(tensor) * paretrim::bytes_of(tensor.dtype); }

std::vector<std::uint8_t> structure_bytes(const Graph& graph, std::uint64_t version) {
  ByteWriter writer;
  put_shape(writer, graph.input.shape);
  put_reals(writer, graph.input.mean);
  put_reals(writer, graph.input.std);
  writer.number(graph.nodes.size());
  for (std::uint32_t value = 1; value <= graph.nodes.size(); ++value) put_node(writer, graph, value);
  if (version != one_vector) writer.number(graph.outputs.size());
  for (const std::uint32_t output : graph.outputs) writer.number(output);
  writer.number(graph.classes.size());
  for (const std::string& name : graph.classes) writer.text(name);
  return std::move(writer.bytes());
}

Graph parse_structure(const std::uint8_t* data, std::size_t size, std::uint64_t version) {
  ByteReader reader(data, size);
  Graph graph;
  graph.input.shape = take_shape(reader);
  graph.input.mean = take_reals(reader);
  graph.input.std = take_reals(reader);
  const std::uint64_t nodes = reader.number(max_nodes, "the number of nodes");
  std::unordered_set<std::string> seen = {"images"};
  for (std::uint64_t i = 0, bytes_of_names = 0; i < nodes; ++i) {
    try {
      const Node& node = graph.nodes.emplace_back(take_node(reader, graph));
      if ((bytes_of_names += node.name.size() + node.layer.size()) > most_of_names) corrupt("names have over 2**24 bytes");
      if (!seen.insert(node.name).second) corrupt("two values are named '" + node.name + "'");
    } catch (const Error& error) {
      corrupt_at("node " + std::to_string(i), error);
    }
  }
  const std::uint64_t outputs = version < any_outputs ? 1 : reader.number(nodes, "the number of outputs");
  for (std::uint64_t i = 0; i < outputs; ++i) {
    graph.outputs.push_back(static_cast<std::uint32_t>(reader.number(nodes, "the output")));
  }
  if (outputs == 0) corrupt("it has no outputs");
  graph.classes.resize(reader.number(std::min<std::uint64_t>(max_classes, reader.left()), "the number of classes"));
  for (std::string& name : graph.classes) name = take_text(reader);
  if (reader.left() > 0) corrupt(std::to_string(reader.left()) + " bytes follow its end");
  if (version < value_tables && version_of(graph) != version) {
    corrupt("it is of version " + std::to_string(version) + ", but its weights and outputs need version " +
            std::to_string(version_of(graph)));
  }
  return graph;
}

}  // namespace paretrim::trim
