#include "trim/records.h"

#include <algorithm>
#include <cstring>

#include "graph/functions.h"
#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/container.h"
#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/structure.h"

namespace paretrim::trim {
namespace {

enum Coding : std::uint8_t { verbatim = 0, modelled = 1 };  // of text and parameters

std::vector<Place> tensors_of(const Graph& graph, bool large) {
  std::vector<Place> found;
  for (std::uint32_t node = 0; node < graph.nodes.size(); ++node) {
    for (const auto& [name, tensor] : graph.nodes[node].tensors) {
      if (is_large(tensor) == large) found.push_back({node, name});
    }
  }
  return found;
}

Tensor& tensor_at(Graph& graph, const Place& place) { return graph.nodes[place.node].tensors.find(place.name)->second; }

// The coded form, or the bytes themselves if they are shorter or the coded form ends in too many zeros for a decoder.
std::vector<std::uint8_t> shorter(Encoder& encoder, const std::vector<std::uint8_t>& bytes) {
  const std::vector<std::uint8_t> coded = encoder.finish();
  const bool taken = encoder.readable() && bytes.size() <= most_decoded(coded.size() + 1);
  return taken && coded.size() < bytes.size() ? with_coding(modelled, coded) : with_coding(verbatim, bytes);
}

// The table by which a node quantizes pixels follows from exact operations, so computing it is the best prediction. Empty for
// other tensors.
std::vector<std::uint8_t> prediction_of(const Graph& graph, const Place& place) {
  const Node& node = graph.nodes[place.node];
  const InputSpec& input = graph.input;
  const Tensor& table = tensor_at(graph, place);
  const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(input.mean.size()), 256};
  const bool fits = facts_of(node.op).grid == GridRule::enters && node.inputs.size() == 1 && node.inputs[0] == 0 &&
                    place.name == "table" && table.dtype == Dtype::uint8 && table.shape == shape &&
                    input.mean.size() == input.std.size();
  if (!fits) return {};
  return pixel_table(input, node.type);
}

// The number of low bits of each bias that are zero in a coarse bias: as many as keep it finer than an eighth of an output step.
std::vector<int> coarseness_of(const Graph& graph, const Node& node, const Tensor& scale) {
  std::vector<int> shifts;
  const float source = graph.type_of(node.inputs[0]).scale;
  for (std::int64_t i = 0; i < scale.size(); ++i) {
    const float multiplier = scale.as<float>()[i] * source / node.type.scale;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &multiplier, sizeof bits);
    const int exponent = static_cast<int>(bits >> 23 & 255) - 126;
    shifts.push_back(std::clamp(-3 - exponent, 0, 31));
  }
  return shifts;
}

// Codes the biases that belong to a scale, without their low bits if all of them are coarse.
template <class Coder, typename AnyTensor>
void code_biases(Coder& coder, NumberModel& model, const std::vector<int>& shifts, AnyTensor& biases) {
  std::vector<std::uint32_t> values(shifts.size());
  bool coarse = true;
  if constexpr (!Coder::decodes) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int32_t bias = biases.template as<std::int32_t>()[i];
      values[i] = static_cast<std::uint32_t>(bias >> shifts[i]);
      coarse = coarse && values[i] << shifts[i] == static_cast<std::uint32_t>(bias);
    }
  }
  coarse = code_raw(coder, coarse, 1) != 0;
  if (!coarse) return model.code_integers(coder, biases.bytes.data(), shifts.size());
  model.code_integers(coder, reinterpret_cast<Bytes<Coder>>(values.data()), values.size());
  if constexpr (Coder::decodes) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] <<= shifts[i];
    if (!values.empty()) std::memcpy(biases.bytes.data(), values.data(), 4 * values.size());
  }
}

// The biases that are coded together with a node's weight_scale, if `name` is one of the two; otherwise null.
template <typename AnyNode>
auto biases_of(AnyNode& node, const std::string& name) -> decltype(&node.tensors.begin()->second) {
  const auto scale = node.tensors.find("weight_scale"), bias = node.tensors.find("bias");
  const bool both = scale != node.tensors.end() && bias != node.tensors.end() && node.type.quantized() && !node.inputs.empty() &&
                    scale->second.dtype == Dtype::float32 && bias->second.dtype == Dtype::int32 && !is_large(scale->second) &&
                    elements_of(scale->second) == elements_of(bias->second);
  return both && (name == "weight_scale" || name == "bias") ? &bias->second : nullptr;
}

template <class Coder, typename AnyGraph>
void code_parameters(Coder& coder, AnyGraph& graph) {
  NumberModel model;
  for (const Place& place : small_tensors(graph)) {
    auto& node = graph.nodes[place.node];
    auto& tensor = tensor_at(graph, place);
    auto* const biases = biases_of(node, place.name);
    const auto count = static_cast<std::size_t>(elements_of(tensor));
    if (biases == &tensor) continue;  // coded after their scales
    if (is_float(tensor.dtype)) {
      model.code_floats(coder, tensor.bytes.data(), count, tensor.dtype);
      if (biases) code_biases(coder, model, coarseness_of(graph, node, tensor), *biases);
    } else if (tensor.dtype == Dtype::int32) {
      model.code_integers(coder, tensor.bytes.data(), count);
    } else {
      const std::vector<std::uint8_t> prediction = prediction_of(graph, place);
      model.code_bytes(coder, tensor.bytes.data(), count, prediction.empty() ? nullptr : prediction.data());
    }
  }
}

}  // namespace

bool is_large(const Tensor& tensor) {
  return tensor.shape.size() >= 2 && (tensor.dtype == Dtype::int8 || is_float(tensor.dtype));
}

const Tensor& tensor_at(const Graph& graph, const Place& place) {
  return graph.nodes[place.node].tensors.find(place.name)->second;
}

std::vector<Place> large_tensors(const Graph& graph) { return tensors_of(graph, true); }

std::vector<Place> small_tensors(const Graph& graph) { return tensors_of(graph, false); }

std::vector<std::vector<Piece>> pieces_of(const Graph& graph, const std::vector<std::uint64_t>& rows) {
  std::vector<std::vector<Piece>> records(rows.size());
  std::size_t record = 0;
  std::uint64_t room = rows.empty() ? 0 : rows[0];
  for (const Place& place : large_tensors(graph)) {
    const Tensor& tensor = tensor_at(graph, place);
    const std::uint64_t count = static_cast<std::uint64_t>(tensor.shape[0]), bytes_per_row = count ? bytes_of(tensor) / count : 0;
    for (std::uint64_t first = 0; first < count;) {
      while (room == 0) {
        if (++record >= rows.size()) corrupt("the records of weights hold fewer rows than the network's tensors have");
        room = rows[record];
      }
      const std::uint64_t taken = std::min(room, count - first);
      records[record].push_back({place, first, taken, bytes_per_row});
      first += taken;
      room -= taken;
    }
  }
  if (room > 0 || std::any_of(rows.begin() + static_cast<std::ptrdiff_t>(std::min(record + 1, rows.size())), rows.end(),
                              [](std::uint64_t more) { return more > 0; })) {
    corrupt("the records of weights hold more rows than the network's tensors have");
  }
  return records;
}

std::vector<std::uint8_t> encode_text(const std::vector<std::uint8_t>& bytes) {
  Encoder encoder;
  TextModel().code(encoder, bytes.data(), bytes.size());
  return shorter(encoder, bytes);
}

std::vector<std::uint8_t> decode_text(const std::uint8_t* data, std::size_t size, std::uint64_t decoded) {
  if (coding_of(data, size, modelled) == verbatim) {
    if (size - 1 != decoded) corrupt("it holds " + std::to_string(size - 1) + " bytes but claims " + std::to_string(decoded));
    return {data + 1, data + size};
  }
  std::vector<std::uint8_t> bytes(decoded);
  Decoder decoder(data + 1, size - 1);
  TextModel().code(decoder, bytes.data(), bytes.size());
  check_end(decoder);
  return bytes;
}

std::vector<std::uint8_t> encode_parameters(const Graph& graph) {
  Encoder encoder;
  code_parameters(encoder, graph);
  std::vector<std::uint8_t> bytes;
  for (const Place& place : small_tensors(graph)) {
    const Tensor& tensor = tensor_at(graph, place);
    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  return shorter(encoder, bytes);
}

void decode_parameters(Graph& graph, const std::uint8_t* data, std::size_t size) {
  if (coding_of(data, size, modelled) == modelled) {
    Decoder decoder(data + 1, size - 1);
    code_parameters(decoder, graph);
    return check_end(decoder);
  }
  ByteReader reader(data + 1, size - 1);
  for (const Place& place : small_tensors(graph)) {
    Tensor& tensor = tensor_at(graph, place);
    const std::uint8_t* from = reader.take(tensor.bytes.size());
    std::copy_n(from, tensor.bytes.size(), tensor.bytes.data());
  }
  if (reader.left() > 0) corrupt(std::to_string(reader.left()) + " bytes follow its end");
}

}  // namespace paretrim::trim
