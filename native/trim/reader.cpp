#include "trim/reader.h"

#include <algorithm>
#include <new>

#include "trim/budget.h"
#include "trim/bytes.h"
#include "trim/container.h"
#include "trim/known_weights.h"
#include "trim/parallel.h"
#include "trim/provenance.h"
#include "trim/records.h"
#include "trim/structure.h"
#include "trim/utf8.h"
#include "trim/versions.h"
#include "trim/weight_records.h"
#include "types/plain_arithmetic.h"

namespace paretrim {
namespace {

using trim::Record;
using trim::RecordKind;

// Verifies and reads a record, and adds its name to errors.
template <typename Read>
void reading(const std::vector<Record>& records, std::size_t index, const Read& read) {
  try {
    trim::verify(records[index]);
    read(records[index]);
  } catch (const Error& error) {
    trim::corrupt_at(trim::name_of(records, index), error);
  } catch (const std::bad_alloc&) {
    trim::corrupt(
        trim::name_of(records, index) + ": its " + std::to_string(records[index].decoded) + " bytes do not fit into memory",
        "free some memory");
  }
}

void check_size(const Record& record, std::uint64_t expected) {
  if (record.decoded != expected) {
    trim::corrupt("it claims " + std::to_string(record.decoded) + " bytes but the structure has " + std::to_string(expected));
  }
}

std::uint64_t total(const Graph& graph, const std::vector<trim::Place>& places) {
  std::uint64_t bytes = 0;
  for (const trim::Place& place : places) {
    bytes += trim::bytes_of(trim::tensor_at(graph, place));
    if (bytes > trim::largest_decoded) trim::corrupt("the tensors of the structure have more bytes than a file may hold");
  }
  return bytes;
}

void make_room(Graph& graph, const std::vector<trim::Place>& places) {
  for (const trim::Place& place : places) {
    Tensor& tensor = graph.nodes[place.node].tensors.find(place.name)->second;
    tensor.bytes.resize(static_cast<std::size_t>(trim::bytes_of(tensor)));
  }
}

void make_room_for_weights(Graph& graph) {
  try {
    make_room(graph, trim::large_tensors(graph));
  } catch (const std::bad_alloc&) {
    trim::corrupt("records of weights: their bytes do not fit into memory", "free some memory");
  }
}

std::vector<double> decode_compared(Graph& graph, const std::vector<trim::Piece>& pieces, const std::uint8_t* data,
                                    std::size_t size, std::uint64_t version, const Poll& poll, trim::Allowance*) {
  return trim::decode_known(graph, pieces, data, size, version, poll);
}

// The pieces of every record of weights. Checks that the table's sizes match the structure.
std::vector<std::vector<trim::Piece>> agreed_pieces(const Graph& graph, const std::vector<Record>& records, std::size_t first) {
  std::vector<std::uint64_t> rows;
  for (std::size_t i = first; i < records.size(); ++i) rows.push_back(records[i].rows);
  const auto pieces = trim::pieces_of(graph, rows);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    std::uint64_t bytes = 0;
    for (const trim::Piece& piece : pieces[i]) bytes += piece.rows * piece.bytes_per_row;
    try {
      check_size(records[first + i], bytes);
    } catch (const Error& error) {
      trim::corrupt_at(trim::name_of(records, first + i), error);
    }
  }
  return pieces;
}

// The stored size of each tensor, summed over its pieces.
std::vector<TrimPart> parts_of(const Graph& graph, const std::vector<std::vector<trim::Piece>>& pieces,
                               const std::vector<std::vector<double>>& bits) {
  std::vector<TrimPart> parts;
  for (std::size_t record = 0; record < pieces.size(); ++record) {
    for (std::size_t i = 0; i < pieces[record].size(); ++i) {
      const trim::Place& place = pieces[record][i].place;
      const std::string& node = graph.nodes[place.node].name;
      if (parts.empty() || parts.back().name != node || parts.back().tensor != place.name) parts.push_back({node, place.name, 0});
      parts.back().bytes += bits[record][i] / 8;
    }
  }
  return parts;
}

// The stored sizes of the header and of every record.
std::vector<TrimPart> stored_sizes(const trim::Container& container) {
  std::vector<TrimPart> sizes = {{"header", "", static_cast<double>(trim::frame_bytes(container))}};
  for (std::size_t i = 0; i < container.records.size(); ++i) {
    sizes.push_back({trim::name_of(container.records, i), "", static_cast<double>(container.records[i].stored)});
  }
  return sizes;
}

// A file may have version 5 or a later one only if a record needs it. The records of weights begin at `first`.
void check_version(const trim::Container& container, std::size_t first) {
  std::uint64_t needed = trim::one_vector;
  for (std::size_t i = first; i < container.records.size(); ++i) {
    needed = std::max(needed, trim::version_of(container.records[i].data, container.records[i].stored));
  }
  if (container.version < trim::value_tables || needed == container.version) return;
  const char* const what = container.version == trim::value_tables      ? "has tables"
                           : container.version == trim::float_exponents ? "holds floats by exponents"
                                                                        : "has integers in groups";
  trim::corrupt("it is of version " + std::to_string(container.version) + ", but no record " + what);
}

}  // namespace

TrimContents read_trim_contents(const std::uint8_t* data, std::size_t size, const ReadSettings& settings) {
  const PlainArithmetic arithmetic;
  const trim::Container container = trim::open_container(data, size, !settings.weights);
  const std::vector<Record>& records = container.records;
  TrimContents contents;
  Graph& graph = contents.graph;
  std::size_t at = 0;
  reading(records, at++, [&](const Record& record) {
    trim::check_text(record.decoded, record.stored, settings.limit);
    const auto bytes = trim::decode_text(record.data, record.stored, record.decoded);
    graph = trim::parse_structure(bytes.data(), bytes.size(), container.version);
    total(graph, trim::large_tensors(graph));
    if (settings.checked) check_structure(graph);
    trim::check_budget(graph, trim::file_bytes(container), settings.limit);
  });
  if (records[at].kind == RecordKind::provenance) {
    reading(records, at++, [&](const Record& record) {
      trim::check_text(record.decoded, record.stored, settings.limit);
      const auto bytes = trim::decode_text(record.data, record.stored, record.decoded);
      contents.provenance.assign(bytes.begin(), bytes.end());
      if (!trim::is_utf8(contents.provenance)) trim::corrupt("it is not valid UTF-8");
      trim::check_provenance(contents.provenance);
    });
  }
  const auto pieces = agreed_pieces(graph, records, at + 1);
  reading(records, at++, [&](const Record& record) {
    const auto places = trim::small_tensors(graph);
    check_size(record, total(graph, places));
    trim::check_parameters(record.decoded, trim::file_bytes(container), settings.limit);
    make_room(graph, places);
    trim::decode_parameters(graph, record.data, record.stored);
  });
  if (settings.known) {
    trim::view_known(graph, *settings.known, container.version);
  } else {
    make_room_for_weights(graph);
  }
  std::vector<std::vector<double>> bits(pieces.size());
  const auto decode = settings.known ? decode_compared : trim::decode_weights;
  trim::Allowance allowance(total(graph, trim::large_tensors(graph)), trim::file_bytes(container), settings.limit);
  trim::in_parallel(settings.weights ? pieces.size() : 0, settings.threads, [&](std::size_t i) {
    reading(records, at + i, [&](const Record& record) {
      bits[i] = decode(graph, pieces[i], record.data, record.stored, container.version, settings.poll, &allowance);
    });
  });
  if (settings.weights) {
    check_version(container, at);
    contents.tensors = parts_of(graph, pieces, bits);
  }
  contents.records = stored_sizes(container);
  return contents;
}

Graph read_trim(const std::uint8_t* data, std::size_t size, const ReadSettings& settings) {
  return std::move(read_trim_contents(data, size, settings).graph);
}

}  // namespace paretrim
