#include "trim/known_weights.h"

#include <algorithm>

#include "trim/bytes.h"
#include "trim/part.h"
#include "trim/structure.h"
#include "trim/weight_records.h"

namespace paretrim::trim {
namespace {

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
