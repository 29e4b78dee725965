#include "trim/container.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "trim/bytes.h"

namespace paretrim::trim {
namespace {

// Like PNG's signature: the first byte is not ASCII, and the line ends reveal a transfer that converted them.
constexpr std::array<std::uint8_t, 8> magic = {0x89, 'T', 'R', 'I', 'M', '\r', '\n', 0x1a};
constexpr std::uint64_t max_records = 1 << 13;

constexpr std::array<const char*, 5> kinds = {"", "structure", "provenance", "parameters", "weights"};

void check(const Record& record, std::uint64_t total) {
  if (record.decoded > most_decoded(record.stored)) {
    corrupt("it claims " + std::to_string(record.decoded) + " bytes from " + std::to_string(record.stored) +
            ", more than they can encode");
  }
  const bool text = record.kind == RecordKind::structure || record.kind == RecordKind::provenance;
  if (text && record.decoded > largest_text_record) {
    corrupt("it claims " + std::to_string(record.decoded) + " bytes; the maximum is " + std::to_string(largest_text_record));
  }
  if (total > largest_decoded) {
    corrupt("with it the file claims " + std::to_string(total) + " bytes; the maximum is " + std::to_string(largest_decoded));
  }
}

// The order is: structure, optionally provenance, parameters, then any number of weights.
void check_order(const std::vector<Record>& records) {
  std::array<std::size_t, 5> count = {};
  for (std::size_t i = 0; i < records.size(); ++i) {
    ++count[static_cast<std::size_t>(records[i].kind)];
    if (i > 0 && records[i].kind < records[i - 1].kind) corrupt(name_of(records, i) + " follows one of a later kind");
  }
  for (const std::size_t kind : {1, 2, 3}) {
    const std::size_t least = kind == 2 ? 0 : 1;
    if (count[kind] < least || count[kind] > 1) {
      corrupt("it has " + std::to_string(count[kind]) + " records of the kind " + kinds[kind] + "; it must have " +
              (least ? "exactly one" : "at most one"));
    }
  }
}

std::vector<Record> take_table(ByteReader& reader) {
  std::vector<Record> records(reader.number(max_records, "the number of records"));
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    Record& record = records[i];
    const std::uint8_t kind = reader.byte();
    if (kind == 0 || kind >= kinds.size())
      corrupt("record " + std::to_string(i) + " has the unknown kind " + std::to_string(kind));
    record.kind = static_cast<RecordKind>(kind);
    if (record.kind == RecordKind::weights) record.rows = reader.number(largest_decoded, "a number of rows");
    record.decoded = reader.number(largest_decoded, "a decoded length");
    record.stored = reader.number(largest_decoded, "a stored length");
    const std::uint8_t* digest = reader.take(record.digest.size());
    std::copy_n(digest, record.digest.size(), record.digest.begin());
    total += record.decoded;
    try {
      check(record, total);
    } catch (const Error& error) {
      corrupt_at(name_of(records, i), error);
    }
  }
  check_order(records);
  return records;
}

void put_table(ByteWriter& writer, const Container& container) {
  writer.append(magic.data(), magic.size());
  writer.number(container.version);
  writer.number(container.records.size());
  for (const Record& record : container.records) {
    writer.byte(static_cast<std::uint8_t>(record.kind));
    if (record.kind == RecordKind::weights) writer.number(record.rows);
    writer.number(record.decoded);
    writer.number(record.stored);
    writer.append(record.digest.data(), record.digest.size());
  }
}

Container take_header(ByteReader& reader, const std::uint8_t* data) {
  Container container;
  const std::uint8_t* start = reader.take(magic.size());
  if (!std::equal(magic.begin(), magic.end(), start))
    corrupt("it does not begin like a .trim file", "give a .trim file, or copy this one again");
  container.version = reader.number(~std::uint64_t{0}, "the version");
  if (container.version < first_version || container.version > last_version) {
    corrupt("its version is " + std::to_string(container.version) + "; this reader supports " + std::to_string(first_version) +
                " to " + std::to_string(last_version),
            container.version > last_version ? "update paretrim" : "write the file again with this version");
  }
  container.records = take_table(reader);
  const Digest digest = sha256(data, reader.position());
  const std::uint8_t* seal = reader.take(digest.size());
  if (!std::equal(digest.begin(), digest.end(), seal))
    corrupt("its SHA-256 does not match", "the file was damaged, so copy or create it again");
  return container;
}

}  // namespace

std::string name_of(const std::vector<Record>& records, std::size_t index) {
  std::string name = "record " + std::to_string(index) + " (" + kinds[static_cast<std::size_t>(records[index].kind)];
  if (records[index].kind == RecordKind::weights) {
    const auto part = std::count_if(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(index),
                                    [](const Record& record) { return record.kind == RecordKind::weights; });
    name += " " + std::to_string(part);
  }
  return name + ")";
}

Container open_container(const std::uint8_t* data, std::size_t size, bool front) {
  ByteReader reader(data, size);
  Container container;
  std::vector<Record>& records = container.records;
  try {
    container = take_header(reader, data);
  } catch (const Error& error) {
    corrupt_at("header", error);
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (front && records[i].kind == RecordKind::weights) break;
    if (records[i].stored > reader.left()) {
      corrupt(name_of(records, i) + ": it is truncated after " + std::to_string(reader.left()) + " of " +
              std::to_string(records[i].stored) + " bytes");
    }
    records[i].data = reader.take(records[i].stored);
  }
  if (reader.left() > 0) corrupt("header: " + std::to_string(reader.left()) + " bytes follow the last record");
  return container;
}

void verify(const Record& record) {
  if (sha256(record.data, record.stored) != record.digest) {
    corrupt("its SHA-256 does not match the table's", "the file was damaged, so copy or create it again");
  }
}

std::size_t frame_bytes(const Container& container) {
  ByteWriter writer;
  put_table(writer, container);
  return writer.bytes().size() + Digest().size();
}

std::uint64_t file_bytes(const Container& container) {
  return std::accumulate(container.records.begin(), container.records.end(), std::uint64_t{frame_bytes(container)},
                         [](std::uint64_t sum, const Record& record) { return sum + record.stored; });
}

std::vector<std::uint8_t> front_of(const Container& container, const std::vector<std::vector<std::uint8_t>>& contents) {
  ByteWriter writer;
  put_table(writer, container);
  const Digest seal = sha256(writer.bytes().data(), writer.bytes().size());
  writer.append(seal.data(), seal.size());
  for (const auto& content : contents) writer.append(content.data(), content.size());
  return std::move(writer.bytes());
}

}  // namespace paretrim::trim
