#include "trim/part.h"

#include <algorithm>
#include <utility>

#include "trim/structure.h"

namespace paretrim::trim {
namespace {

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

}  // namespace

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

}  // namespace paretrim::trim
