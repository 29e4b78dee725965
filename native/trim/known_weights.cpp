#include "trim/known_weights.h"

#include <algorithm>

#include "trim/bytes.h"
#include "trim/structure.h"
#include "trim/weight_records.h"

namespace paretrim::trim {
namespace {

// The pieces of a record as a graph that holds nothing else.
struct Part {
  Graph graph;
  std::vector<Piece> pieces;
};

Tensor rows_of(const Tensor& tensor, const Piece& piece, std::uint64_t bytes_per_row) {
  Tensor rows{tensor.dtype, tensor.shape, TensorBytes(static_cast<std::size_t>(piece.rows * bytes_per_row))};
  rows.shape[0] = static_cast<std::int64_t>(piece.rows);
  return rows;
}

// Scales of integer weights are part of what their coding looks at.
void add_scales(Node& node, const std::map<std::string, Tensor, std::less<>>& siblings, const Piece& piece,
                std::int64_t outputs) {
  const auto scale = siblings.find("weight_scale");
  if (piece.place.name != "weight" || scale == siblings.end() || is_large(scale->second)) return;
  if (scale->second.shape != std::vector<std::int64_t>{outputs}) return;
  const std::uint64_t each = paretrim::bytes_of(scale->second.dtype);
  Tensor part = rows_of(scale->second, piece, each);
  std::copy_n(scale->second.bytes.begin() + piece.first * each, part.bytes.size(), part.bytes.data());
  node.tensors.emplace("weight_scale", std::move(part));
}

Part part_of(const Graph& graph, const std::vector<Piece>& pieces) {
  Part part;
  for (const Piece& piece : pieces) {
    const Tensor& tensor = tensor_at(graph, piece.place);
    Node node;
    add_scales(node, graph.nodes[piece.place.node].tensors, piece, tensor.shape[0]);
    node.tensors.emplace(piece.place.name, rows_of(tensor, piece, piece.bytes_per_row));
    Piece own = piece;
    own.place.node = static_cast<std::uint32_t>(part.graph.nodes.size());
    own.first = 0;
    part.graph.nodes.push_back(std::move(node));
    part.pieces.push_back(own);
  }
  return part;
}

bool same_bytes(const TensorBytes& one, const TensorBytes& other) {
  return one.size() == other.size() && std::equal(one.begin(), one.end(), other.begin());
}

[[noreturn]] void differs() { corrupt("it does not decode to the network that it was written from", "please report this"); }

}  // namespace

void view_known(Graph& graph, const Graph& known, std::uint64_t version) {
  if (structure_bytes(graph, version) != structure_bytes(known, version)) differs();
  for (const Place& place : small_tensors(graph)) {
    if (!same_bytes(tensor_at(graph, place).bytes, tensor_at(known, place).bytes)) differs();
  }
  for (const Place& place : large_tensors(graph)) {
    const TensorBytes& bytes = tensor_at(known, place).bytes;
    if (bytes.size() != bytes_of(tensor_at(known, place))) differs();
    graph.nodes[place.node].tensors.find(place.name)->second.bytes = TensorBytes::view(bytes.data(), bytes.size());
  }
}

std::vector<double> decode_known(const Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                 std::uint64_t version, const Poll& poll) {
  Part part = part_of(graph, pieces);
  const std::vector<double> bits = decode_weights(part.graph, part.pieces, data, size, version, poll);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const TensorBytes &found = tensor_at(part.graph, part.pieces[i].place).bytes,
                      &whole = tensor_at(graph, pieces[i].place).bytes;
    if (!std::equal(found.begin(), found.end(), whole.begin() + pieces[i].first * pieces[i].bytes_per_row)) differs();
  }
  return bits;
}

}  // namespace paretrim::trim
