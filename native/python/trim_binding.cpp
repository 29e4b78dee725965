#include "python/trim_binding.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include "python/byte_view.h"
#include "python/element_types.h"
#include "python/graph_of.h"
#include "python/lock_release.h"
#include "trim/reader.h"
#include "trim/weight_records.h"
#include "trim/writer.h"
#include "types/error.h"

namespace nb = nanobind;

namespace paretrim {
namespace {

nb::tuple tuple_of(const std::vector<std::int64_t>& values) { return nb::tuple(nb::cast(values)); }

nb::object object_of(const Attribute& attribute) {
  if (const auto* values = std::get_if<std::vector<std::int64_t>>(&attribute)) return tuple_of(*values);
  if (const auto* truth = std::get_if<bool>(&attribute)) return nb::bool_(*truth);
  if (const auto* whole = std::get_if<std::int64_t>(&attribute)) return nb::int_(*whole);
  if (const auto* real = std::get_if<double>(&attribute)) return nb::float_(*real);
  return nb::cast(std::get<std::string>(attribute));
}

nb::dlpack::dtype dtype_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::uint8:
      return nb::dtype<std::uint8_t>();
    case Dtype::int8:
      return nb::dtype<std::int8_t>();
    case Dtype::int32:
      return nb::dtype<std::int32_t>();
    case Dtype::float16:
      return half;
    case Dtype::bfloat16:
      return nb::dtype<std::uint16_t>();
    case Dtype::float32:
      break;
  }
  return nb::dtype<float>();
}

// A NumPy array that takes ownership of the tensor's memory.
nb::object array_of(Tensor&& tensor) {
  auto memory = std::make_unique<TensorBytes>(std::move(tensor.bytes));
  const std::vector<std::size_t> shape(tensor.shape.begin(), tensor.shape.end());
  void* data = memory->data();
  const nb::capsule owner(memory.get(), [](void* held) noexcept { delete static_cast<TensorBytes*>(held); });
  memory.release();
  return nb::cast(nb::ndarray<nb::numpy>(data, shape.size(), shape.data(), owner, nullptr, dtype_of(tensor.dtype)));
}

std::string name_of(const Graph& graph, std::uint32_t value) { return value == 0 ? "images" : graph.nodes[value - 1].name; }

// The parts of a graph, as the constructors of paretrim.graph.types take them: input, nodes, outputs, classes.
nb::tuple values_of(Graph&& graph) {
  nb::list nodes;
  for (Node& node : graph.nodes) {
    nb::list inputs;
    for (const std::uint32_t input : node.inputs) inputs.append(name_of(graph, input));
    nb::dict attributes, tensors;
    for (const auto& [name, attribute] : node.attributes) attributes[nb::cast(name)] = object_of(attribute);
    for (auto& [name, tensor] : node.tensors) tensors[nb::cast(name)] = array_of(std::move(tensor));
    const char* dtype = node.type.quantized() ? "uint8" : "float32";
    const nb::tuple type = nb::make_tuple(tuple_of(node.type.shape), dtype, node.type.scale, node.type.zero_point);
    const std::string_view op = name_of(node.op);
    nodes.append(
        nb::make_tuple(node.name, nb::str(op.data(), op.size()), nb::tuple(inputs), type, attributes, tensors, node.layer));
  }
  const nb::tuple input =
      nb::make_tuple(tuple_of(graph.input.shape), nb::tuple(nb::cast(graph.input.mean)), nb::tuple(nb::cast(graph.input.std)));
  nb::list outputs;
  for (const std::uint32_t output : graph.outputs) outputs.append(name_of(graph, output));
  return nb::make_tuple(input, nodes, nb::tuple(outputs), nb::tuple(nb::cast(graph.classes)));
}

nb::tuple read(nb::handle object, int threads, double limit, bool checked) {
  const ByteView content(object);
  const std::uint8_t* data = content.data();
  const std::size_t size = content.size();
  TrimContents found = interruptible([&](const Poll& poll) {
    return read_trim_contents(data, size, {std::min(threads, max_readers), limit, checked, poll, nullptr, true});
  });
  nb::list tensors, records;
  for (const TrimPart& part : found.tensors) tensors.append(nb::make_tuple(part.name, part.tensor, part.bytes));
  for (const TrimPart& part : found.records) records.append(nb::make_tuple(part.name, part.bytes));
  return nb::make_tuple(values_of(std::move(found.graph)), found.provenance, tensors, records);
}

nb::bytes bytes_of(const std::vector<std::uint8_t>& content) { return nb::bytes(content.data(), content.size()); }

nb::bytes write(nb::handle graph, const std::string& provenance, int threads, std::uint64_t few_floats, double limit,
                bool check_weights) {
  std::vector<ArrayHolder> arrays;
  const Graph viewed = graph_of(graph, &arrays);
  std::vector<std::uint8_t> file;
  {
    const LockRelease release;
    file = write_trim(viewed, {provenance}, {threads, few_floats, limit, check_weights});
  }
  return bytes_of(file);
}

// Calls put(at, content) for every record of weights, with a view that is valid during the call. Returns the front of the file
// and where the first record was put.
nb::tuple write_records(nb::handle graph, nb::handle put, const std::string& provenance, int threads, double limit,
                        bool check_weights) {
  std::vector<ArrayHolder> arrays;
  const Graph viewed = graph_of(graph, &arrays);
  TrimFront front;
  {
    const LockRelease release;
    const auto call = [&](std::uint64_t at, std::vector<std::uint8_t> record) {
      const LockHold lock;
      auto* bytes = reinterpret_cast<char*>(record.data());
      const nb::object view = nb::steal(PyMemoryView_FromMemory(bytes, static_cast<Py_ssize_t>(record.size()), PyBUF_READ));
      put(at, view);
      view.attr("release")();
    };
    front = write_trim(viewed, {provenance}, {threads, trim::few_float_bytes, limit, check_weights}, call);
  }
  return nb::make_tuple(bytes_of(front.bytes), front.place);
}

}  // namespace

void bind_trim(nb::module_& module) {
  module.def("read_trim", &read, nb::arg("content"), nb::kw_only(), nb::arg("threads"), nb::arg("limit") = 1.0,
             nb::arg("checked") = true);
  module.def("coded_bytes", &trim::coded_bytes);
  module.def("write_trim", &write, nb::arg("graph"), nb::kw_only(), nb::arg("provenance"), nb::arg("threads"),
             nb::arg("few_floats") = trim::few_float_bytes, nb::arg("limit") = std::numeric_limits<double>::infinity(),
             nb::arg("check_weights") = true);
  module.def("write_trim_records", &write_records, nb::arg("graph"), nb::arg("put"), nb::kw_only(), nb::arg("provenance"),
             nb::arg("threads"), nb::arg("limit"), nb::arg("check_weights"));
}

}  // namespace paretrim
