// A planned network that runs: the library's C++ face. The C face is include/paretrim.h.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/poll.h"

namespace paretrim {

struct Settings {
  int threads = 1;              // of one call; the caller's own thread is one of them
  std::string instruction_set;  // "" for the best this CPU has, else a name of instruction_sets()
  bool measure = true;          // choose kernels by measuring them; false takes rules of thumb (deterministic, instant)
  std::string choices;          // what an earlier Network::choices() gave; ignored if made for another CPU, graph or version
  double measured_work = std::numeric_limits<double>::infinity();  // multiply-adds that measuring may execute; then rules of thumb
  Poll poll;                    // called between layers while they are planned
};

// What one step of the plan costs and how it is computed.
struct LayerReport {
  std::string name;                 // node names joined by " + " where steps were fused
  std::string layer;
  std::string op;
  std::string kernel;               // for people: view, tile and group
  double weights = 0;               // all of them, zeros included
  double zeros = 0;                 // how many are 0
  double multiply_adds = 0;         // dense, of one image
  double useful_multiply_adds = 0;  // without those on weights that are 0
  double issued_multiply_adds = 0;  // what the kernel executes, partly filled blocks and padding included
};

class Network {
 public:
  // Throws Error: the graph breaks a rule, has an operation outside the integer graph, or a setting is unknown.
  Network(Graph graph, const Settings& settings);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Logits float32 [count, classes] of images [count, C, H, W] (uint8 pixels or float32, as the input says), contiguous.
  // May be called from many threads at once. Throws data_unavailable on NaN in float images.
  void run(const void* images, std::int64_t count, float* logits) const;

  // As run, for one image on the calling thread alone, and the nanoseconds of every step, in the order of layers().
  void profile(const void* image, float* logits, std::vector<std::int64_t>& nanoseconds) const;

  const InputSpec& input() const;
  std::int64_t classes() const;
  const std::vector<std::string>& class_names() const;
  const std::vector<LayerReport>& layers() const;
  std::string choices() const;              // one line of text; hand it to Settings::choices later
  bool choices_were_used() const;           // whether Settings::choices fitted
  std::string instruction_set() const;
  int threads() const;
  std::int64_t peak_bytes() const;          // memory of one running call: values and scratch, weights not counted
  std::int64_t weight_bytes() const;        // memory of weights and tables in their packed form, shared by all calls

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::vector<std::string> instruction_sets();                    // that this CPU runs, best first; "plain" is always last
double peak_multiply_adds_a_second(const std::string& set);     // of 8-bit products on one thread, by a microbenchmark

}  // namespace paretrim
