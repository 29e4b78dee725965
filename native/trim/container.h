// The container of a file: header, table of records and digests, independent of networks. See SPEC.md, "Container".
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
  std::uint64_t rows = 0;     // weights only: the number of output channels of large tensors in this record
  std::uint64_t decoded = 0;  // bytes
  std::uint64_t stored = 0;   // bytes
  Digest digest = {};         // of the stored bytes
  const std::uint8_t* data = nullptr;
};

inline constexpr std::uint64_t largest_decoded = std::uint64_t{1} << 32;  // bytes of all records
inline constexpr std::uint64_t largest_text_record = std::uint64_t{1} << 22;

// Most bytes that a record of so many stored bytes may decode to: a coded bit always costs more than 2**-11 bits.
constexpr std::uint64_t most_decoded(std::uint64_t stored) {
  return (std::uint64_t{1} << 17) * stored + (std::uint64_t{1} << 16);
}

// Supported file versions; versions.h says what they mean.
inline constexpr std::uint64_t first_version = 2, last_version = 7;

struct Container {
  std::uint64_t version = first_version;
  std::vector<Record> records;
};

// The name of a record in error messages.
std::string name_of(const std::vector<Record>& records, std::size_t index);

// Checks lengths, limits, the order of the records, and the digest of header and table. `verify` checks the records' digests.
// With `front`, the data end before the records of weights, which then have none.
Container open_container(const std::uint8_t* data, std::size_t size, bool front = false);

// Throws corrupt_file if the stored bytes do not match the digest in the table.
void verify(const Record& record);

// Size of header and table.
std::size_t frame_bytes(const Container& container);

// Size of the whole file.
std::uint64_t file_bytes(const Container& container);

// Header, table, and the first records, whose contents are given.
std::vector<std::uint8_t> front_of(const Container& container, const std::vector<std::vector<std::uint8_t>>& contents);

}  // namespace paretrim::trim
