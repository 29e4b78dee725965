// Encodes and decodes text and parameters, with shared code for both directions, and assigns tensors to records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "types/poll.h"

namespace paretrim::trim {

// Large tensors (int8 and floats with at least two axes) are stored in the records of weights, by rows of their first axis. All
// others are parameters. Both are ordered by node, then by tensor name.
struct Place {
  std::uint32_t node = 0;
  std::string name;
};
const Tensor& tensor_at(const Graph& graph, const Place& place);
bool is_large(const Tensor& tensor);
std::vector<Place> large_tensors(const Graph& graph);
std::vector<Place> small_tensors(const Graph& graph);

// A range of rows of one large tensor.
struct Piece {
  Place place;
  std::uint64_t first = 0, rows = 0;
  std::uint64_t bytes_per_row = 0;
};

// Splits the large tensors into records with the given numbers of rows. Throws corrupt_file if their sum is not the number of
// rows of all tensors.
std::vector<std::vector<Piece>> pieces_of(const Graph& graph, const std::vector<std::uint64_t>& rows);

std::vector<std::uint8_t> encode_text(const std::vector<std::uint8_t>& bytes);
std::vector<std::uint8_t> decode_text(const std::uint8_t* data, std::size_t size, std::uint64_t decoded);

std::vector<std::uint8_t> encode_parameters(const Graph& graph);
// Fills the tensors, whose memory must have been allocated.
void decode_parameters(Graph& graph, const std::uint8_t* data, std::size_t size);

}  // namespace paretrim::trim
