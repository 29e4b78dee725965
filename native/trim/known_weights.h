// Reads a file whose network is known, as right after it was written: every weight is decoded and compared, but none is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "trim/records.h"
#include "types/poll.h"

namespace paretrim::trim {

// Lets the large tensors of `graph`, the structure and parameters of a file of this version, view those of `known`, which must
// outlive it. Throws corrupt_file unless structure and parameters are the same.
void view_known(Graph& graph, const Graph& known, std::uint64_t version);

// Decodes one record of weights to memory of its own. Throws corrupt_file unless the weights are those that `graph` views.
// Returns the number of bits of each piece, like `decode_weights`.
std::vector<double> decode_known(const Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                                 std::uint64_t version, const Poll& poll);

}  // namespace paretrim::trim
