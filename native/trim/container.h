// The frame of a file: header, table of records, digests; see SPEC.md, "Container". Nothing in it knows networks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "trim/sha256.h"

namespace paretrim::trim {

enum class RecordKind : std::uint8_t { structure = 1, provenance = 2, parameters = 3, weights = 4 };

struct Record {
  RecordKind kind = RecordKind::structure;
  std::uint64_t rows = 0;     // of weights: how many output channels of the network's large tensors follow
  std::uint64_t decoded = 0;  // bytes
  std::uint64_t stored = 0;   // bytes
  Digest digest = {};         // of the stored bytes
  const std::uint8_t* data = nullptr;
};

inline constexpr std::uint64_t largest_decoded = std::uint64_t{1} << 32;  // bytes of all records
inline constexpr std::uint64_t largest_text_record = std::uint64_t{1} << 22;

// The versions of files there are. What a version means is for the structure to say.
inline constexpr std::uint64_t first_version = 2, last_version = 6;

struct Container {
  std::uint64_t version = first_version;
  std::vector<Record> records;
};

// A record as errors name it.
std::string name_of(const std::vector<Record>& records, std::size_t index);

// Checks lengths, limits, the order of the records and the digest of header and table; the records' own digests are for `verify`.
Container open_container(const std::uint8_t* data, std::size_t size);

// Throws corrupt_file where the stored bytes are not those whose digest the table holds.
void verify(const Record& record);

// Bytes of header and table of a file with these records.
std::size_t frame_bytes(const Container& container);

// The file; digests are made here.
std::vector<std::uint8_t> close_container(Container& container, const std::vector<std::vector<std::uint8_t>>& contents);

}  // namespace paretrim::trim
