// A planned network that runs: the library's C++ face. The C face is include/paretrim.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/layer_report.h"
#include "types/settings.h"

namespace paretrim {

// What a network returns for one image.
struct Output {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t size = 0;  // product of the shape
};

class Network {
 public:
  // Throws Error: the graph breaks a rule, has an operation that is not computed, or a setting is unknown.
  Network(Graph graph, const Settings& settings);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Of images [count, C, H, W] (uint8 pixels or float32, as the input says), contiguous, every output float32 [count, ...] into
  // its own memory: one pointer for each of outputs(). May be called from many threads at once. Throws data_unavailable on NaN in
  // float images.
  void run(const void* images, std::int64_t count, float* const* outputs) const;

  // As run, for one image on the calling thread alone, and the nanoseconds of every step, in the order of layers().
  void profile(const void* image, float* const* outputs, std::vector<std::int64_t>& nanoseconds) const;

  // As run, on the calling thread alone, and every float32 value that a step leaves, each into its own memory [count, ...]: one
  // pointer for each of step_values(). Nodes that are fused with the next have none.
  void run_all(const void* images, std::int64_t count, float* const* outputs, float* const* values) const;

  const InputSpec& input() const;
  const std::vector<Output>& outputs() const;
  std::vector<Output> step_values() const;  // by the names of their nodes
  const std::vector<std::string>& class_names() const;
  const std::vector<LayerReport>& layers() const;
  std::string choices() const;     // one line of text; hand it to Settings::choices later
  bool choices_were_used() const;  // whether Settings::choices fitted
  std::string instruction_set() const;
  int threads() const;
  std::int64_t peak_bytes() const;    // memory of one running call: values and scratch, without weights
  std::int64_t weight_bytes() const;  // memory of weights and tables in their packed form, shared by all calls

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace paretrim
