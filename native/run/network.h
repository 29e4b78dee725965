// A network that is planned and ready to run: the C++ API. The C API is include/paretrim.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/layer_report.h"
#include "types/settings.h"

namespace paretrim {

// One output of a network, for one image.
struct Output {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t size = 0;  // product of the shape
};

class Network {
 public:
  // Throws Error if the graph breaks a rule, an operation is not supported, or a setting is invalid.
  Network(Graph graph, const Settings& settings);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Runs contiguous images [count, C, H, W], uint8 pixels or float32 as input() says. Writes each output as float32 [count, ...];
  // `outputs` holds one pointer for each of outputs(). Thread-safe. Throws data_unavailable if float images hold NaN or infinity.
  void run(const void* images, std::int64_t count, float* const* outputs) const;

  // Runs one image on the calling thread only, and measures the nanoseconds of every step, in the order of layers().
  void profile(const void* image, float* const* outputs, std::vector<std::int64_t>& nanoseconds) const;

  // Runs images one after the other, and also writes every float32 value that a step computes, as [count, ...]; `values`
  // holds one pointer for each of step_values(). A node that is fused into the next one has no value.
  void run_all(const void* images, std::int64_t count, float* const* outputs, float* const* values) const;

  const InputSpec& input() const;
  const std::vector<Output>& outputs() const;
  std::vector<Output> step_values() const;  // named after their nodes
  const std::vector<std::string>& class_names() const;
  const std::vector<LayerReport>& layers() const;
  std::string choices() const;     // the kernel choices as one line of text, for Settings::choices
  bool choices_were_used() const;  // whether all of Settings::choices applied
  std::string instruction_set() const;
  int threads() const;
  std::int64_t peak_bytes() const;    // memory of one call: activations and scratch, without weights
  std::int64_t weight_bytes() const;  // memory of packed weights and tables, shared by all calls

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace paretrim
