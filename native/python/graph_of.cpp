#include "python/graph_of.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <unordered_map>

#include "python/element_types.h"
#include "types/error.h"

namespace nb = nanobind;

namespace paretrim {
namespace {

[[noreturn]] void corrupt(const std::string& why) { throw Error(ErrorKind::corrupt_file, why); }

template <typename T>
T value_of(nb::handle object, const std::string& place, const char* wanted) {
  T result{};
  if (!nb::try_cast<T>(object, result)) {
    corrupt(place + " is " + nb::cast<std::string>(nb::repr(object)).substr(0, 100) + "; it must be " + wanted);
  }
  return result;
}

template <typename T>
std::vector<T> values_of(nb::handle object, const std::string& place, const char* wanted) {
  std::vector<T> result;
  for (nb::handle item : object) result.push_back(value_of<T>(item, place, wanted));
  return result;
}

std::vector<std::int64_t> integers_of(nb::handle object, const std::string& place) {
  return values_of<std::int64_t>(object, place, "64-bit integers");
}

Dtype dtype_of(const std::string& name, const std::string& place) {
  if (name == "float32") return Dtype::float32;
  if (name == "uint8") return Dtype::uint8;
  corrupt(place + " is '" + name.substr(0, 100) + "'; a value is float32 or uint8");
}

Dtype dtype_of(nb::dlpack::dtype dtype, const std::string& place) {
  if (dtype == nb::dtype<float>()) return Dtype::float32;
  if (dtype == nb::dtype<std::uint8_t>()) return Dtype::uint8;
  if (dtype == nb::dtype<std::int8_t>()) return Dtype::int8;
  if (dtype == nb::dtype<std::int32_t>()) return Dtype::int32;
  if (dtype == half) return Dtype::float16;
  if (dtype == nb::dtype<std::uint16_t>()) return Dtype::bfloat16;
  corrupt(place + " has an unsupported element type; use float32, float16, uint8, int8, int32, or bfloat16 as uint16");
}

constexpr std::size_t large_array = 1 << 20;  // bytes from which a view is cheaper than a copy

// If `arrays` is not null, large float32 tensors are views of arrays that are appended there.
Tensor tensor_of(nb::handle object, const std::string& place, std::vector<ArrayHolder>* arrays) {
  ArrayHolder array;
  if (!nb::try_cast(object, array)) corrupt(place + " is not a contiguous array in CPU memory; copy it there");
  Tensor tensor;
  tensor.dtype = dtype_of(array.dtype(), place);
  for (std::size_t axis = 0; axis < array.ndim(); ++axis) {
    tensor.shape.push_back(static_cast<std::int64_t>(array.shape(axis)));
  }
  // Of integers a writer reads every number several times, and relies on finding the same one: they are copied.
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % sizeof(float) == 0;
  if (arrays != nullptr && aligned && tensor.dtype == Dtype::float32 && array.nbytes() >= large_array) {
    tensor.bytes = TensorBytes::view(static_cast<const std::uint8_t*>(array.data()), array.nbytes());
    arrays->push_back(array);
    return tensor;
  }
  tensor.bytes.resize(array.nbytes());
  if (!tensor.bytes.empty()) std::memcpy(tensor.bytes.data(), array.data(), tensor.bytes.size());
  return tensor;
}

Attribute attribute_of(nb::handle object, const std::string& place) {
  if (nb::isinstance<nb::bool_>(object)) return nb::cast<bool>(object);
  if (nb::isinstance<nb::int_>(object)) return value_of<std::int64_t>(object, place, "a 64-bit integer");
  if (nb::isinstance<nb::float_>(object)) return nb::cast<double>(object);
  if (nb::isinstance<nb::str>(object)) return nb::cast<std::string>(object);
  if (nb::isinstance<nb::tuple>(object)) return integers_of(object, place);
  corrupt(place + " is of another type; give a number, a string or a tuple of integers");
}

ValueType type_of(nb::handle object, const std::string& place) {
  ValueType type;
  type.shape = integers_of(object.attr("shape"), place + ": its shape");
  type.dtype = dtype_of(value_of<std::string>(object.attr("dtype"), place + ": its dtype", "a string"), place + ": its dtype");
  const auto scale = value_of<double>(object.attr("scale"), place + ": its scale", "a number");
  type.scale = static_cast<float>(scale);
  if (static_cast<double>(type.scale) != scale) {
    corrupt(place + ": its scale is " + digits_of(scale) + "; it must be a positive normal float32");
  }
  type.zero_point = value_of<std::int32_t>(object.attr("zero_point"), place + ": its zero point", "a 32-bit integer");
  return type;
}

using Numbers = std::unordered_map<std::string, std::uint32_t>;

std::uint32_t number_of(const Numbers& numbers, const std::string& name, const std::string& place) {
  const auto found = numbers.find(name);
  if (found == numbers.end())
    corrupt(place + " is '" + name.substr(0, 100) + "', which no earlier node produces; put that node first");
  return found->second;
}

Node node_of(nb::handle object, const Numbers& numbers, std::vector<ArrayHolder>* arrays) {
  Node node;
  node.name = value_of<std::string>(object.attr("name"), "a node name", "a string");
  const std::string place = "node '" + node.name.substr(0, 100) + "'";
  node.layer = value_of<std::string>(object.attr("layer"), place + ": its layer", "a string");
  node.op = op_named(value_of<std::string>(object.attr("op"), place + ": its operation", "a string"));
  for (nb::handle input : object.attr("inputs")) {
    node.inputs.push_back(
        number_of(numbers, value_of<std::string>(input, place + ": an input", "a string"), place + ": an input"));
  }
  node.type = type_of(object.attr("type"), place);
  for (nb::handle item : object.attr("attributes").attr("items")()) {
    const auto name = value_of<std::string>(item[0], place + ": the name of an attribute", "a string");
    node.attributes.emplace(name, attribute_of(item[1], place + ": attribute '" + name + "'"));
  }
  for (nb::handle item : object.attr("tensors").attr("items")()) {
    const auto name = value_of<std::string>(item[0], place + ": the name of a tensor", "a string");
    node.tensors.emplace(name, tensor_of(item[1], place + ": tensor '" + name + "'", arrays));
  }
  return node;
}

}  // namespace

Graph graph_of(nb::handle object, std::vector<ArrayHolder>* arrays) {
  Graph graph;
  const nb::object input = object.attr("input");
  graph.input.shape = integers_of(input.attr("shape"), "the input shape");
  graph.input.mean = values_of<double>(input.attr("mean"), "the mean", "a number");
  graph.input.std = values_of<double>(input.attr("std"), "the std", "a number");
  Numbers numbers = {{"images", 0}};
  for (nb::handle item : object.attr("nodes")) {
    graph.nodes.push_back(node_of(item, numbers, arrays));
    numbers.emplace(graph.nodes.back().name, static_cast<std::uint32_t>(graph.nodes.size()));
  }
  for (const std::string& name : values_of<std::string>(object.attr("outputs"), "an output", "a string")) {
    graph.outputs.push_back(number_of(numbers, name, "the output"));
  }
  graph.classes = values_of<std::string>(object.attr("classes"), "a class name", "a string");
  return graph;
}

}  // namespace paretrim
