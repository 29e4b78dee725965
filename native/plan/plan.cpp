#include "plan/plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "graph/attributes.h"
#include "plan/convolution.h"
#include "plan/elementwise.h"
#include "plan/float_steps.h"
#include "plan/meaning.h"
#include "plan/memory.h"
#include "plan/moves.h"
#include "plan/pack.h"
#include "plan/steps.h"
#include "types/error.h"

namespace paretrim {
namespace {

[[noreturn]] void refuse(const Node& node, const std::string& why) {
  throw Error(ErrorKind::unsupported_operation, "node '" + node.name + "' (layer '" + node.layer + "', " +
                                                    std::string(name_of(node.op)) + ") cannot be planned: " + why);
}

class Planner {
 public:
  Planner(const Graph& graph, const Kernels& kernels, Pool& pool, const Settings& settings,
          const std::vector<std::string>& chosen)
      : graph_(graph), kernels_(kernels), pool_(pool), settings_(settings), chosen_(chosen) {}

  Plan make() {
    find_uses();
    for (const std::uint32_t output : graph_.outputs) add_output(output);
    buffer_of_.assign(graph_.nodes.size() + 1, -1);
    bytes_.resize(1 + graph_.outputs.size());  // the caller's input and outputs take no memory in the arena
    buffer_of_[0] = images_buffer;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      ask(settings_.poll);
      if (needed_[i + 1] && buffer_of_[i + 1] < 0) add_node(i);
      if (!plan_.values.empty() && plan_.values.back().steps == 0) plan_.values.back().steps = plan_.steps.size();
    }
    for (std::size_t output = 0; output < outputs_.size(); ++output) store_output(output);
    pack_weights();
    settle_memory();
    return std::move(plan_);
  }

 private:
  // Resolves aliases: an output that only reshapes another value shares its bytes.
  void add_output(std::uint32_t output) {
    std::uint32_t value = output;
    while (value > 0 && is_alias(graph_.nodes[value - 1])) value = graph_.nodes[value - 1].inputs[0];
    const Node& node = graph_.nodes[output - 1];
    if (value == 0) refuse(node, "this output is the images themselves; return a value that is computed");
    if (std::find(outputs_.begin(), outputs_.end(), value) != outputs_.end()) {
      refuse(node, "it has the same values as another output; remove one of the two");
    }
    outputs_.push_back(value);
  }

  // Finds the values that the outputs depend on, and the nodes that read each value.
  void find_uses() {
    needed_.assign(graph_.nodes.size() + 1, false);
    readers_.assign(graph_.nodes.size() + 1, {});
    for (const std::uint32_t output : graph_.outputs) needed_[output] = true;
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
      if (!needed_[i + 1]) continue;
      for (const std::uint32_t value : graph_.nodes[i].inputs) {
        needed_[value] = true;
        readers_[value].push_back(i);
      }
    }
  }

  Buffer new_buffer(const ValueType& type) {
    bytes_.push_back(Layout::of(type).bytes());
    return static_cast<Buffer>(bytes_.size() - 1);
  }

  bool is_output(std::uint32_t value) const { return std::find(outputs_.begin(), outputs_.end(), value) != outputs_.end(); }

  // Whether a step reads the value, directly or through an alias.
  bool read_by_steps(std::uint32_t value) const {
    return std::any_of(readers_[value].begin(), readers_[value].end(), [&](std::size_t reader) {
      return !is_alias(graph_.nodes[reader]) || read_by_steps(static_cast<std::uint32_t>(reader) + 1);
    });
  }

  // A step writes directly to the caller's memory if the output is a vector, which needs no padding, and no step reads it.
  Buffer result_buffer(std::size_t node, const ValueType& type) {
    const std::uint32_t value = static_cast<std::uint32_t>(node) + 1;
    const auto output = std::find(outputs_.begin(), outputs_.end(), value);
    const bool numbers = Layout::of(type).pixels() == 1 && !read_by_steps(value);
    buffer_of_[value] = output != outputs_.end() && numbers ? first_output_buffer + static_cast<Buffer>(output - outputs_.begin())
                                                            : new_buffer(type);
    if (!type.quantized()) plan_.values.push_back({graph_.nodes[node].name, type, buffer_of_[value]});
    return buffer_of_[value];
  }

  // Copies an output to the caller's memory unless its step already writes there.
  void store_output(std::size_t output) {
    const Buffer to = first_output_buffer + static_cast<Buffer>(output);
    const Node& node = graph_.nodes[outputs_[output] - 1];
    const Buffer from = buffer_of_[outputs_[output]];
    if (from != to) add_step(store_map_step(node.type, from, to), add_report(node));
  }

  // The buffer of a value that a node reads. Adds the step that loads float images when they are first read.
  Buffer operand(const Node& node, std::uint32_t value) {
    if (value != 0 || graph_.input.takes_pixels() || facts_of(node.op).grid == GridRule::enters) return buffer_of_[value];
    if (loaded_images_ < 0) {
      loaded_images_ = new_buffer(graph_.type_of(0));
      plan_.layers.push_back({"images", "", "load", ""});
      add_step(load_images_step(graph_.type_of(0), loaded_images_), plan_.layers.size() - 1);
    }
    return loaded_images_;
  }

  void add_step(std::unique_ptr<Step> step, std::size_t layer) {
    step->layer = layer;
    plan_.steps.push_back(std::move(step));
  }

  std::size_t add_report(const Node& node) {
    plan_.layers.push_back({node.name, node.layer, std::string(name_of(node.op)), ""});
    return plan_.layers.size() - 1;
  }

  void add_node(std::size_t i) {
    const Node& node = graph_.nodes[i];
    const ValueType source = graph_.type_of(node.inputs[0]);
    if (is_alias(node)) {
      buffer_of_[i + 1] = operand(node, node.inputs[0]);
      return;
    }
    switch (role_of(node.op)) {
      case Role::weighted:
        return add_weighted(i, source);
      case Role::move:
        return add_moves(i);
      case Role::join:
        return add_joined(i);
      case Role::reshape:
      case Role::step:
        return add_own_step(i);
    }
  }

  void add_own_step(std::size_t i) {
    const Node& node = graph_.nodes[i];
    const std::size_t layer = add_report(node);
    Operands operands;
    for (const std::uint32_t value : node.inputs) operands.inputs.push_back(operand(node, value));
    operands.output = result_buffer(i, node.type);
    add_step(make_step({graph_, node, operands, kernels_}), layer);
  }

  // Whether a node's result has the same bytes as its input.
  bool is_alias(const Node& node) const {
    return role_of(node.op) == Role::reshape && Layout::of(graph_.type_of(node.inputs[0]).shape).pixels() == 1;
  }

  // Merges a chain of moves that nothing else reads, for example a shortcut that takes every second pixel and pads channels.
  void add_moves(std::size_t i) {
    Move move = move_of(graph_.nodes[i], graph_.type_of(graph_.nodes[i].inputs[0]));
    const Buffer in = operand(graph_.nodes[i], graph_.nodes[i].inputs[0]);
    const std::size_t layer = add_report(graph_.nodes[i]);
    std::vector<std::size_t> chain{i};
    while (only_reader(chain.back()) && role_of(graph_.nodes[*only_reader(chain.back())].op) == Role::move) {
      const std::size_t next = *only_reader(chain.back());
      const std::optional<Move> both = joined(move, move_of(graph_.nodes[next], graph_.nodes[chain.back()].type));
      if (!both) break;
      move = *both;
      plan_.layers[layer].name += " + " + graph_.nodes[next].name;
      chain.push_back(next);
    }
    const Buffer out = result_buffer(chain.back(), graph_.nodes[chain.back()].type);
    for (const std::size_t node : chain) buffer_of_[node + 1] = out;  // only the last value is ever read
    add_step(move_step(std::move(move), in, out, kernels_), layer);
  }

  void add_joined(std::size_t i) {
    const Node& node = graph_.nodes[i];
    const std::size_t layer = add_report(node);
    const Buffer out = result_buffer(i, node.type);
    std::int64_t first = 0;
    for (const std::uint32_t value : node.inputs) {
      const ValueType source = graph_.type_of(value);
      Move move;
      move.in = Layout::of(source.shape);
      move.out = Layout::of(node.type.shape);
      move.first_channel = first;
      for (std::int64_t c = 0; c < move.in.channels; ++c) move.channels.push_back(c);
      const bool same_grid = source.scale == node.type.scale && source.zero_point == node.type.zero_point;
      first += move.in.channels;
      if (!source.quantized()) {
        move = float_move(std::move(move));
      } else if (!same_grid) {
        move.table = rescaling_table(node, source);
      }
      add_step(move_step(std::move(move), operand(node, value), out, kernels_), layer);
    }
  }

  // The only node that reads this one's value; none if there are several readers or the value is an output.
  std::optional<std::size_t> only_reader(std::size_t i) const {
    if (readers_[i + 1].size() != 1 || is_output(static_cast<std::uint32_t>(i) + 1)) return std::nullopt;
    return readers_[i + 1][0];
  }

  // The add that is this layer's only reader and whose other operand is already computed, if any.
  std::optional<std::size_t> fusable_add(std::size_t i) const {
    const std::optional<std::size_t> reader = only_reader(i);
    if (!reader) return std::nullopt;
    const Node& next = graph_.nodes[*reader];
    if (fusion_of(next.op) != Fusion::addition || next.inputs[0] == next.inputs[1]) return std::nullopt;
    const std::uint32_t other = next.inputs[next.inputs[0] == i + 1 ? 1 : 0];
    if (buffer_of_[other] < 0) return std::nullopt;  // computed later, perhaps by a layer that will fuse this add itself
    return reader;
  }

  // The relu or clamp that is the only reader of a value, if any.
  std::optional<std::size_t> fusable_range(std::size_t i) const {
    const std::optional<std::size_t> reader = only_reader(i);
    const bool clamps = reader && fusion_of(graph_.nodes[*reader].op) == Fusion::range;
    return clamps ? reader : std::nullopt;
  }

  void add_weighted(std::size_t i, const ValueType& source) {
    const Node& node = graph_.nodes[i];
    const bool real = !source.quantized();
    const bool logits = !real && !node.type.quantized();
    if (logits && Layout::of(node.type).pixels() != 1) {
      refuse(node,
             "an integer layer with a float result must return a vector, not a map; quantize its result and add a dequantize");
    }
    WeightedLayer layer = weighted_of(node, source);
    Operands operands{{operand(node, node.inputs[0])}, 0};
    const std::size_t report = add_report(node);
    std::vector<std::size_t> fused{i};  // nothing else reads their values, except the last one's
    const std::optional<std::size_t> sum = logits ? std::nullopt : fusable_add(i);
    if (sum) {
      const Node& next = graph_.nodes[*sum];
      const bool first = next.inputs[0] == i + 1;
      layer.addition = real ? Addition{} : addition_of(next, graph_.type_of(next.inputs[0]), graph_.type_of(next.inputs[1]));
      layer.addition_swapped = !first;
      operands.inputs.push_back(operand(next, next.inputs[first ? 1 : 0]));
      fused.push_back(*sum);
    }
    if (const std::optional<std::size_t> clamp = real ? fusable_range(fused.back()) : std::nullopt) {
      const Range range = range_of(graph_.nodes[*clamp]);
      layer.low = range.low;
      layer.high = range.high;
      fused.push_back(*clamp);
    }
    operands.output = result_buffer(fused.back(), graph_.nodes[fused.back()].type);
    for (const std::size_t other : fused) {
      buffer_of_[other + 1] = operands.output;
      if (other != i) plan_.layers[report].name += " + " + graph_.nodes[other].name;
    }
    NonzeroBlocks nonzero(layer);
    const Choice choice = choice_for(node, layer, nonzero);
    plan_.choices.push_back(text_of(choice));
    UnpackedLayer unpacked{plan_.steps.size(),  report, &node, std::move(layer), std::move(nonzero), choice,
                           std::move(operands), {}};
    unpacked_.push_back(std::make_unique<UnpackedLayer>(std::move(unpacked)));
    plan_.steps.emplace_back();  // filled by pack_weights()
  }

  void pack_weights() {
    pack(unpacked_, pool_, kernels_, settings_.poll);
    for (const auto& one : unpacked_) {
      one->made.step->layer = one->report;
      plan_.steps[one->step] = std::move(one->made.step);
      plan_.copies_bytes = std::max(plan_.copies_bytes, one->made.copies_bytes);
      plan_.weight_bytes += one->made.weight_bytes;
      fill_report(plan_.layers[one->report], *one->node, one->layer, one->choice, one->made.issued_multiply_adds);
    }
  }

  // Whether the budget of work allows measuring this layer.
  bool measured(const WeightedLayer& layer, const NonzeroBlocks& nonzero) {
    measured_work_ += work_of_measuring(layer, nonzero);
    return settings_.measure && measured_work_ <= settings_.measured_work;
  }

  Choice choice_for(const Node& node, const WeightedLayer& layer, const NonzeroBlocks& nonzero) {
    const std::size_t index = plan_.choices.size();
    if (index < chosen_.size()) {
      const std::optional<Choice> saved = choice_from(chosen_[index]);
      if (saved && possible(*saved, layer, kernels_)) return *saved;
    }
    try {
      return choose(layer, nonzero, measured(layer, nonzero), pool_, kernels_);
    } catch (const std::length_error& error) {
      refuse(node, error.what());
    }
  }

  void settle_memory() {
    Placement placement = place(lifetimes_of(plan_.steps, bytes_));
    plan_.offsets = std::move(placement.offsets);
    plan_.arena_bytes = placement.bytes;
  }

  const Graph& graph_;
  const Kernels& kernels_;
  Pool& pool_;
  const Settings& settings_;
  double measured_work_ = 0;  // multiply-adds so far
  const std::vector<std::string>& chosen_;
  Plan plan_;
  UnpackedLayers unpacked_;
  std::vector<std::uint32_t> outputs_;             // values, with aliases resolved
  std::vector<bool> needed_;                       // by value
  std::vector<std::vector<std::size_t>> readers_;  // by value: nodes
  std::vector<Buffer> buffer_of_;                  // by value; -1 while it has none
  std::vector<std::int64_t> bytes_;                // by buffer
  Buffer loaded_images_ = -1;                      // planes of the float32 images; -1 unless a step reads them
};

}  // namespace

Plan make_plan(const Graph& graph, const Kernels& kernels, Pool& pool, const Settings& settings,
               const std::vector<std::string>& chosen) {
  return Planner(graph, kernels, pool, settings, chosen).make();
}

}  // namespace paretrim
