#include "trim/writer.h"

#include <algorithm>
#include <numeric>

#include "trim/bytes.h"
#include "trim/container.h"
#include "trim/parallel.h"
#include "trim/reader.h"
#include "trim/records.h"
#include "trim/structure.h"
#include "trim/versions.h"
#include "trim/weight_records.h"

namespace paretrim {
namespace {

// Large enough that a new model in each record costs little, small enough to divide a network among threads.
constexpr std::uint64_t elements_per_record = 1 << 20;

// Number of rows per record of weights, so that records have about equal numbers of elements.
std::vector<std::uint64_t> shares(const Graph& graph) {
  std::uint64_t total = 0;
  const auto places = trim::large_tensors(graph);
  for (const trim::Place& place : places) total += trim::elements_of(trim::tensor_at(graph, place));
  // One, or an even number, so that two threads finish at about the same time.
  const std::uint64_t count =
      total <= elements_per_record ? 1 : 2 * ((total + 2 * elements_per_record - 1) / (2 * elements_per_record));
  std::vector<std::uint64_t> rows;
  std::uint64_t held = 0, done = 0;
  for (const trim::Place& place : places) {
    const Tensor& tensor = trim::tensor_at(graph, place);
    const auto outputs = static_cast<std::uint64_t>(tensor.shape[0]);
    for (std::uint64_t row = 0; row < outputs; ++row) {
      ++held;
      done += trim::elements_of(tensor) / outputs;
      if (done * count >= total * (rows.size() + 1) && done < total) {
        rows.push_back(held);
        held = 0;
      }
    }
  }
  if (held > 0) rows.push_back(held);
  return rows;
}

std::uint64_t size_of(const Graph& graph, const std::vector<trim::Place>& places) {
  return std::accumulate(places.begin(), places.end(), std::uint64_t{0}, [&](std::uint64_t sum, const trim::Place& place) {
    return sum + trim::bytes_of(trim::tensor_at(graph, place));
  });
}

void check_tensors(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    for (const auto& [name, tensor] : node.tensors) {
      if (trim::bytes_of(tensor) != tensor.bytes.size()) {
        trim::corrupt("node '" + node.name + "': tensor '" + name + "' has " + std::to_string(tensor.bytes.size()) +
                          " bytes and a shape for " + std::to_string(trim::bytes_of(tensor)),
                      "give it as many bytes as its shape has");
      }
    }
  }
}

// Decodes the file and compares it with the graph, so that a file that does not decode to its network is never written.
void check(const Graph& graph, const TrimMeta& meta, const std::uint8_t* file, std::size_t size, const WriteSettings& written) {
  ReadSettings settings;
  settings.threads = written.threads;
  settings.limit = written.limit;
  settings.checked = false;
  settings.known = &graph;
  settings.weights = written.check_weights;
  if (read_trim_contents(file, size, settings).provenance != meta.provenance) {
    trim::corrupt("the written file does not decode to the same provenance", "please report this");
  }
}

}  // namespace

void write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings, const trim::FileRoom& room) {
  check_tensors(graph);
  const auto rows = shares(graph);
  const auto pieces = trim::pieces_of(graph, rows);
  std::vector<std::vector<std::uint8_t>> weights(pieces.size());
  trim::in_parallel(pieces.size(), settings.threads,
                    [&](std::size_t i) { weights[i] = trim::encode_weights(graph, pieces[i], settings.few_floats); });
  const auto some = [&](bool (*has)(const std::uint8_t*, std::size_t)) {
    return std::any_of(weights.begin(), weights.end(), [&](const auto& record) { return has(record.data(), record.size()); });
  };
  trim::Container container{some(trim::has_exponents) ? trim::float_exponents
                            : some(trim::has_tables)  ? trim::value_tables
                                                      : trim::version_of(graph),
                            {}};
  std::vector<trim::Record>& records = container.records;
  std::vector<std::vector<std::uint8_t>> contents;
  const auto add = [&](trim::RecordKind kind, std::uint64_t decoded, std::vector<std::uint8_t> content) {
    records.emplace_back();
    records.back().kind = kind;
    records.back().decoded = decoded;
    contents.push_back(std::move(content));
  };
  const std::vector<std::uint8_t> structure = trim::structure_bytes(graph, container.version);
  add(trim::RecordKind::structure, structure.size(), trim::encode_text(structure));
  if (!meta.provenance.empty()) {
    const std::vector<std::uint8_t> provenance(meta.provenance.begin(), meta.provenance.end());
    add(trim::RecordKind::provenance, provenance.size(), trim::encode_text(provenance));
  }
  add(trim::RecordKind::parameters, size_of(graph, trim::small_tensors(graph)), trim::encode_parameters(graph));
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    std::uint64_t bytes = 0;
    for (const trim::Piece& piece : pieces[i]) bytes += piece.rows * piece.bytes_per_row;
    add(trim::RecordKind::weights, bytes, std::move(weights[i]));
    records.back().rows = rows[i];
  }
  const std::uint8_t* file = nullptr;
  const std::size_t size = trim::close_container(container, std::move(contents), settings.threads, [&](std::size_t bytes) {
    std::uint8_t* to = room(bytes);
    file = to;
    return to;
  });
  check(graph, meta, file, size, settings);
}

std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings) {
  std::vector<std::uint8_t> file;
  write_trim(graph, meta, settings, [&](std::size_t size) {
    file.resize(size);
    return file.data();
  });
  return file;
}

}  // namespace paretrim
