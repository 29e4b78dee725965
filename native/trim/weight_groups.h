// Integer weights that are small integers times a multiplier for each group of input channels. See SPEC.md, "Integers in groups".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "graph/graph.h"
#include "trim/budget.h"
#include "trim/records.h"

namespace paretrim::trim {

// The groups of one integer piece: `channels` consecutive input channels each, of one output channel and all kernel positions.
// Multipliers are by row, then by group. None, and 0 channels, if the piece is not in groups.
struct Groups {
  std::uint64_t channels = 0;
  std::vector<std::uint8_t> multipliers;
};

// A record in groups without its first coding byte: groups, and where the record of the small integers begins.
struct GroupedRecord {
  std::vector<Groups> groups;  // of the nonempty integer pieces
  std::size_t inner = 0;
  std::vector<double> bits;  // of all pieces
};

using EncodeRecord = std::function<std::vector<std::uint8_t>(const Graph&, const std::vector<Piece>&)>;

// The record in groups, without its coding byte; `encode` encodes the small integers. Empty if no piece is in groups.
std::vector<std::uint8_t> encode_in_groups(const Graph& graph, const std::vector<Piece>& pieces, const EncodeRecord& encode);

// Reads the groups. Takes a byte for each multiplier from the allowance, if any. Throws corrupt_file.
GroupedRecord groups_of(const Graph& graph, const std::vector<Piece>& pieces, const std::uint8_t* data, std::size_t size,
                        Allowance* allowance = nullptr);

// Multiplies the decoded small integers. Throws corrupt_file if a product is no int8.
void multiply(Graph& graph, const std::vector<Piece>& pieces, const std::vector<Groups>& groups);

}  // namespace paretrim::trim
