#include "trim/writer.h"

#include <algorithm>
#include <numeric>

#include "trim/budget.h"
#include "trim/bytes.h"
#include "trim/container.h"
#include "trim/known_weights.h"
#include "trim/parallel.h"
#include "trim/reader.h"
#include "trim/records.h"
#include "trim/structure.h"
#include "trim/versions.h"
#include "trim/weight_records.h"
#include "types/plain_arithmetic.h"

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

// The records before those of weights. Only the structure depends on the version.
class FrontRecords {
 public:
  FrontRecords(const Graph& graph, const TrimMeta& meta) : graph_(graph) {
    if (!meta.provenance.empty()) {
      const std::vector<std::uint8_t> provenance(meta.provenance.begin(), meta.provenance.end());
      add(trim::RecordKind::provenance, provenance.size(), trim::encode_text(provenance));
    }
    add(trim::RecordKind::parameters, size_of(graph, trim::small_tensors(graph)), trim::encode_parameters(graph));
  }

  std::size_t count() const { return 1 + others_.size(); }

  // The front of the file with these records of weights.
  std::vector<std::uint8_t> bytes(std::uint64_t version, const std::vector<trim::Record>& weights) const {
    const std::vector<std::uint8_t> structure = trim::structure_bytes(graph_, version);
    std::vector<std::vector<std::uint8_t>> contents = {trim::encode_text(structure)};
    trim::Container container{version, {record_of(trim::RecordKind::structure, structure.size(), contents[0])}};
    container.records.insert(container.records.end(), others_.begin(), others_.end());
    container.records.insert(container.records.end(), weights.begin(), weights.end());
    contents.insert(contents.end(), contents_.begin(), contents_.end());
    return trim::front_of(container, contents);
  }

 private:
  static trim::Record record_of(trim::RecordKind kind, std::uint64_t decoded, const std::vector<std::uint8_t>& content) {
    return {kind, 0, decoded, content.size(), trim::sha256(content.data(), content.size()), nullptr};
  }
  void add(trim::RecordKind kind, std::uint64_t decoded, std::vector<std::uint8_t> content) {
    others_.push_back(record_of(kind, decoded, content));
    contents_.push_back(std::move(content));
  }

  const Graph& graph_;
  std::vector<trim::Record> others_;
  std::vector<std::vector<std::uint8_t>> contents_;  // of the others
};

// Decodes the front of a file and compares it with the graph, so that a file that does not decode to its network is never used.
void check_front(const Graph& graph, const TrimMeta& meta, const std::vector<std::uint8_t>& front, double limit) {
  ReadSettings settings;
  settings.limit = limit;
  settings.checked = false;
  settings.known = &graph;
  settings.weights = false;
  if (read_trim_contents(front.data(), front.size(), settings).provenance != meta.provenance) {
    trim::corrupt("the written file does not decode to the same provenance", "please report this");
  }
}

// The same for a record of weights, while it is in the caches.
void check_weights(const Graph& graph, const std::vector<trim::Piece>& pieces, const std::vector<std::uint8_t>& record,
                   const std::string& name) {
  try {
    trim::decode_known(graph, pieces, record.data(), record.size(), trim::last_version, Poll());
  } catch (const Error& error) {
    trim::corrupt_at(name, error);
  }
}

// Refuses a file whose readers would refuse its weights, of which `modelled` bytes take a reader's time.
void check_modelled(const Graph& graph, std::uint64_t modelled, std::size_t front, const std::vector<trim::Record>& records,
                    double limit) {
  std::uint64_t bytes = front;
  for (const trim::Record& record : records) bytes += record.stored;
  trim::Allowance(size_of(graph, trim::large_tensors(graph)), bytes, limit).take(modelled);
}

std::vector<trim::Record> empty_records(const std::vector<std::vector<trim::Piece>>& pieces,
                                        const std::vector<std::uint64_t>& rows) {
  std::vector<trim::Record> records(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    records[i].kind = trim::RecordKind::weights;
    records[i].rows = rows[i];
    for (const trim::Piece& piece : pieces[i]) records[i].decoded += piece.rows * piece.bytes_per_row;
  }
  return records;
}

}  // namespace

TrimFront write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings, const PutRecord& put) {
  const PlainArithmetic arithmetic;
  check_tensors(graph);
  const auto rows = shares(graph);
  const auto pieces = trim::pieces_of(graph, rows);
  const FrontRecords front(graph, meta);
  std::vector<trim::Record> records = empty_records(pieces, rows);
  std::uint64_t version = trim::version_of(graph), place = 0, at = 0, modelled = 0;
  // Where the records begin depends on the lengths of all of them, written as varints, and on the version. Usually the first
  // record tells both.
  const auto begin = [&] {
    std::vector<trim::Record> alike = records;
    for (trim::Record& record : alike) record.stored = records[0].stored;
    place = at = front.bytes(version, alike).size();
  };
  trim::Turns turns;
  trim::Spares<trim::ExponentBuffers> spares;
  trim::in_parallel(pieces.size(), settings.threads, [&](std::size_t i) {
    try {
      std::vector<std::uint8_t> content = spares.with(
          [&](trim::ExponentBuffers& buffers) { return trim::encode_weights(graph, pieces[i], settings.few_floats, buffers); });
      const std::string name = "record " + std::to_string(front.count() + i) + " (weights " + std::to_string(i) + ")";
      if (settings.check_weights) check_weights(graph, pieces[i], content, name);
      const trim::Digest digest = trim::sha256(content.data(), content.size());
      const std::uint64_t by_model = trim::modelled_bytes(graph, pieces[i], content);
      turns.take(i, [&] {
        records[i].digest = digest;
        records[i].stored = content.size();
        modelled += by_model;
        version = std::max(version, trim::version_of(content.data(), content.size()));
        if (i == 0) begin();
        put(at, std::move(content));
        at += records[i].stored;
      });
    } catch (...) {
      turns.fail();
      throw;
    }
  });
  TrimFront written{front.bytes(version, records), place};
  if (pieces.empty()) written.place = written.bytes.size();
  check_front(graph, meta, written.bytes, settings.limit);
  check_modelled(graph, modelled, written.bytes.size(), records, settings.limit);
  return written;
}

std::vector<std::uint8_t> write_trim(const Graph& graph, const TrimMeta& meta, const WriteSettings& settings) {
  std::vector<std::vector<std::uint8_t>> records;
  const auto keep = [&](std::uint64_t, std::vector<std::uint8_t> record) { records.push_back(std::move(record)); };
  std::vector<std::uint8_t> file = write_trim(graph, meta, settings, keep).bytes;
  for (const auto& record : records) file.insert(file.end(), record.begin(), record.end());
  return file;
}

}  // namespace paretrim
