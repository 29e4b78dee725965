// paretrim.runtime._native: the Python bindings. Arguments are checked again here, because wrong ones would read invalid memory;
// paretrim.runtime checks them first and gives friendlier messages.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "graph/graph.h"
#include "kernels/cpu.h"
#include "python/byte_view.h"
#include "python/graph_of.h"
#include "python/histogram_binding.h"
#include "python/lock_release.h"
#include "python/training_binding.h"
#include "python/trim_binding.h"
#include "run/network.h"
#include "trim/reader.h"
#include "types/error.h"

namespace nb = nanobind;

namespace paretrim {
namespace {

using Images = nb::ndarray<nb::ro>;
using Values = nb::ndarray<nb::numpy, float>;

const char* error_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::corrupt_file:
      return "CorruptFile";
    case ErrorKind::unsupported_operation:
      return "UnsupportedOperation";
    case ErrorKind::data_unavailable:
      return "DataUnavailable";
  }
  return "ParetrimError";
}

// A message may quote a damaged file, so invalid UTF-8 is replaced.
nb::object text_of(const std::string& bytes) {
  return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

void translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    const nb::object type = nb::module_::import_("paretrim.errors").attr(error_name(error.kind));
    PyErr_SetObject(type.ptr(), text_of(error.what()).ptr());
  }
}

Settings settings_of(int threads, const std::string& instruction_set, bool measure, const std::string& choices) {
  Settings settings;
  settings.threads = threads;
  settings.instruction_set = instruction_set;
  settings.measure = measure;
  settings.choices = choices;
  return settings;
}

std::unique_ptr<Network> plan_graph(nb::handle object, int threads, const std::string& instruction_set, bool measure,
                                    const std::string& choices) {
  Graph graph = graph_of(object);
  Settings settings = settings_of(threads, instruction_set, measure, choices);
  return interruptible([&](const Poll& poll) {
    settings.poll = poll;
    return std::make_unique<Network>(std::move(graph), settings);
  });
}

std::unique_ptr<Network> plan_trim(nb::handle object, int threads, const std::string& instruction_set, bool measure,
                                   const std::string& choices, double limit, nb::handle known) {
  const ByteView content(object);
  std::vector<ArrayHolder> arrays;
  Graph expected;
  if (!known.is_none()) expected = graph_of(known, &arrays);
  const std::uint8_t* data = content.data();
  const std::size_t size = content.size();
  Settings settings = settings_of(threads, instruction_set, measure, choices);
  settings.measured_work = measured_work(size, limit);
  const Graph* graph = known.is_none() ? nullptr : &expected;
  return interruptible([&](const Poll& poll) {
    settings.poll = poll;
    const ReadSettings reading = {std::min(threads, max_readers), limit, true, poll, graph, true};
    return std::make_unique<Network>(read_trim(data, size, reading), settings);
  });
}

// Pointer to images [..., C, H, W] with `dimensions` axes. Checks that they have the network's input type and are contiguous in
// CPU memory.
const void* pixels_of(const Network& network, const Images& images, std::size_t dimensions) {
  const InputSpec& input = network.input();
  const bool pixels = input.takes_pixels();
  bool fits = images.is_valid() && images.ndim() == dimensions && images.device_type() == nb::device::cpu::value &&
              images.dtype() == (pixels ? nb::dtype<std::uint8_t>() : nb::dtype<float>());
  std::int64_t stride = 1;
  for (std::size_t axis = dimensions; fits && axis-- > 0;) {
    const std::size_t place = axis + 3 - dimensions;  // in [C, H, W]; wraps around for the axis of the batch
    if (place < 3) fits = static_cast<std::int64_t>(images.shape(axis)) == input.shape[place];
    fits = fits && (images.shape(axis) <= 1 || images.size() == 0 || images.stride(axis) == stride);
    stride *= static_cast<std::int64_t>(images.shape(axis));
  }
  if (!fits) {
    throw Error(ErrorKind::data_unavailable,
                "images do not have the shape, type, memory order or device of the input; give a C-ordered NumPy array like it");
  }
  return images.data();
}

// An uninitialised array [count, ...] for one output.
Values empty_array(const Output& output, std::size_t count) {
  auto memory = std::make_unique<float[]>(count * static_cast<std::size_t>(output.size));
  float* data = memory.get();
  const nb::capsule owner(data, [](void* held) noexcept { delete[] static_cast<float*>(held); });
  memory.release();
  std::vector<std::size_t> shape{count};
  shape.insert(shape.end(), output.shape.begin(), output.shape.end());
  return Values(data, shape.size(), shape.data(), owner);
}

// Uninitialised arrays for all outputs; appends their data pointers to `to`.
nb::list empty_arrays(const std::vector<Output>& outputs, std::size_t count, std::vector<float*>& to) {
  nb::list arrays;
  for (const Output& output : outputs) {
    const Values values = empty_array(output, count);
    to.push_back(values.data());
    arrays.append(values);
  }
  return arrays;
}

nb::tuple run(const Network& network, const Images& images) {
  const void* data = pixels_of(network, images, 4);
  const std::size_t count = images.shape(0);
  std::vector<float*> to;
  const nb::list arrays = empty_arrays(network.outputs(), count, to);
  {
    const LockRelease others_may_run;
    if (count > 0) network.run(data, static_cast<std::int64_t>(count), to.data());
  }
  return nb::tuple(arrays);
}

// All outputs, and every float32 value that is computed on the way to them, by the name of its node.
nb::tuple outputs_and_step_values(const Network& network, const Images& images) {
  const void* data = pixels_of(network, images, 4);
  const std::size_t count = images.shape(0);
  const std::vector<Output> values = network.step_values();
  std::vector<float*> outputs, to;
  const nb::list results = empty_arrays(network.outputs(), count, outputs), arrays = empty_arrays(values, count, to);
  {
    const LockRelease others_may_run;
    network.run_all(data, static_cast<std::int64_t>(count), outputs.data(), to.data());
  }
  nb::dict found;
  for (std::size_t i = 0; i < values.size(); ++i) found[nb::cast(values[i].name)] = arrays[i];
  return nb::make_tuple(nb::tuple(results), found);
}

std::vector<std::int64_t> profile(const Network& network, const Images& image) {
  const void* data = pixels_of(network, image, 3);
  std::vector<std::vector<float>> values;
  std::vector<float*> to;
  for (const Output& output : network.outputs()) to.push_back(values.emplace_back(output.size).data());
  std::vector<std::int64_t> nanoseconds;
  const LockRelease others_may_run;
  network.profile(data, to.data(), nanoseconds);
  return nanoseconds;
}

nb::tuple shapes_of(const Network& network) {
  nb::list shapes;
  for (const Output& output : network.outputs()) shapes.append(nb::tuple(nb::cast(output.shape)));
  return nb::tuple(shapes);
}

nb::tuple names_of(const Network& network) {
  nb::list names;
  for (const Output& output : network.outputs()) names.append(output.name);
  return nb::tuple(names);
}

void check(nb::handle graph) { validate(graph_of(graph)); }

}  // namespace

NB_MODULE(_native, m) {
  m.attr("version") = PARETRIM_VERSION;
  nb::register_exception_translator(translate);
  nb::set_leak_warnings(false);  // a thread that is still in a call at interpreter shutdown keeps its network alive

  nb::class_<LayerReport>(m, "LayerReport")
      .def_ro("name", &LayerReport::name)
      .def_ro("layer", &LayerReport::layer)
      .def_ro("op", &LayerReport::op)
      .def_ro("kernel", &LayerReport::kernel)
      .def_ro("weights", &LayerReport::weights)
      .def_ro("zeros", &LayerReport::zeros)
      .def_ro("multiply_adds", &LayerReport::multiply_adds)
      .def_ro("useful_multiply_adds", &LayerReport::useful_multiply_adds)
      .def_ro("issued_multiply_adds", &LayerReport::issued_multiply_adds);

  nb::class_<Network>(m, "Network")
      .def("run", &run)
      .def("profile", &profile)
      .def("outputs_and_step_values", &outputs_and_step_values)
      .def_prop_ro("input_shape", [](const Network& network) { return network.input().shape; })
      .def_prop_ro("takes_pixels", [](const Network& network) { return network.input().takes_pixels(); })
      .def_prop_ro("output_names", &names_of)
      .def_prop_ro("output_shapes", &shapes_of)
      .def_prop_ro("class_names", &Network::class_names)
      .def_prop_ro("layers", &Network::layers, nb::rv_policy::copy)
      .def_prop_ro("choices", &Network::choices)
      .def_prop_ro("choices_were_used", &Network::choices_were_used)
      .def_prop_ro("instruction_set", &Network::instruction_set)
      .def_prop_ro("threads", &Network::threads)
      .def_prop_ro("peak_bytes", &Network::peak_bytes)
      .def_prop_ro("weight_bytes", &Network::weight_bytes);

  m.def("plan_graph", &plan_graph, nb::arg("graph"), nb::kw_only(), nb::arg("threads"), nb::arg("instruction_set"),
        nb::arg("measure"), nb::arg("choices"));
  m.def("plan_trim", &plan_trim, nb::arg("content"), nb::kw_only(), nb::arg("threads"), nb::arg("instruction_set"),
        nb::arg("measure"), nb::arg("choices"), nb::arg("limit") = 1.0, nb::arg("known") = nb::none());
  m.def("usual_limit", &usual_limit);
  m.def("check", &check, nb::arg("graph"));
  m.def("instruction_sets", &instruction_sets);
  m.def(
      "peak_multiply_adds_a_second",
      [](const std::string& set) {
        const LockRelease others_may_run;
        return peak_multiply_adds_a_second(set);
      },
      nb::arg("instruction_set"));
  bind_histogram(m);
  bind_training(m);
  bind_trim(m);
}

}  // namespace paretrim
