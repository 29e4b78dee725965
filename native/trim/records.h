// What the records of a file hold, in both directions: the same walk over a graph's tensors writes and reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/poll.h"

namespace paretrim::trim {

// Large tensors (int8 and floats with two axes or more) are coded by rows of their first axis in the records of weights; all
// others are parameters. Both in the order of the nodes, and within a node of the tensors' names.
struct Place {
  std::uint32_t node = 0;
  std::string name;
};
const Tensor& tensor_at(const Graph& graph, const Place& place);
bool is_large(const Tensor& tensor);
std::vector<Place> large_tensors(const Graph& graph);
std::vector<Place> small_tensors(const Graph& graph);

// Some rows of one large tensor.
struct Piece {
  Place place;
  std::uint64_t first = 0, rows = 0;
  std::uint64_t bytes_a_row = 0;
};

// The pieces of consecutive records with so many rows each. Throws corrupt_file if they are not exactly the rows of all tensors.
std::vector<std::vector<Piece>> pieces_of(const Graph& graph, const std::vector<std::uint64_t>& rows);

std::vector<std::uint8_t> encode_text(const std::vector<std::uint8_t>& bytes);
std::vector<std::uint8_t> decode_text(const std::uint8_t* data, std::size_t size, std::uint64_t decoded);

std::vector<std::uint8_t> encode_parameters(const Graph& graph);
// Fills tensors whose bytes have been made room for.
void decode_parameters(Graph& graph, const std::uint8_t* data, std::size_t size);

}  // namespace paretrim::trim
