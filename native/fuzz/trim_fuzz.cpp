// A libFuzzer target for the reader of .trim files; scripts/fuzz-trim.sh builds and runs it.
//
// Reads every input as it is and with corrected digests, because a wrong digest stops the reader early. If reading succeeds,
// writing the network twice must give the same bytes, and reading those must give the same network.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "trim/bytes.h"
#include "trim/reader.h"
#include "trim/sha256.h"
#include "trim/writer.h"
#include "types/error.h"

namespace {

using paretrim::trim::ByteReader;
using paretrim::trim::sha256;

// Corrects all digests of a file.
void reseal(std::vector<std::uint8_t>& file) {
  struct Entry {
    std::size_t digest, stored;
  };
  std::vector<Entry> entries;
  ByteReader reader(file.data(), file.size());
  constexpr std::uint64_t any = ~std::uint64_t{0};
  try {
    reader.take(8);
    reader.number(any, "");
    const std::uint64_t count = reader.number(64, "");
    for (std::uint64_t i = 0; i < count; ++i) {
      if (reader.byte() == 4) reader.number(any, "");
      reader.number(any, "");
      const std::uint64_t stored = reader.number(file.size(), "");
      entries.push_back({reader.position(), static_cast<std::size_t>(stored)});
      reader.take(32);
    }
    const std::size_t seal = reader.position();
    reader.take(32);
    for (const Entry& entry : entries) {
      const auto digest = sha256(reader.take(entry.stored), entry.stored);
      std::copy(digest.begin(), digest.end(), file.begin() + static_cast<std::ptrdiff_t>(entry.digest));
    }
    const auto digest = sha256(file.data(), seal);
    std::copy(digest.begin(), digest.end(), file.begin() + static_cast<std::ptrdiff_t>(seal));
  } catch (const paretrim::Error&) {
  }
}

constexpr double max_seconds = 20;  // with sanitizers; 2 seconds are enough without

// Without `checked`, the rules of operations are not enforced, so more inputs reach the decoders.
void read(const std::uint8_t* data, std::size_t size, bool checked) {
  paretrim::TrimContents contents;
  paretrim::ReadSettings settings;
  settings.checked = checked;
  const auto start = std::chrono::steady_clock::now();
  const auto in_time = [&] {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    if (spent.count() > max_seconds) std::abort();
  };
  try {
    contents = paretrim::read_trim_contents(data, size, settings);
    in_time();
  } catch (const paretrim::Error& error) {
    in_time();
    if (error.kind != paretrim::ErrorKind::corrupt_file || !*error.what()) std::abort();
    return;
  }
  const paretrim::TrimMeta meta = {contents.provenance};
  // write_trim reads its own file back and compares; an uncaught error of that check ends the run.
  if (paretrim::write_trim(contents.graph, meta, {1}) != paretrim::write_trim(contents.graph, meta, {2})) std::abort();
  paretrim::write_trim(contents.graph, meta, {1, 0});  // codes all floats by exponents, which is rare otherwise
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  reseal(file);
  for (const bool checked : {false, true}) {
    read(data, size, checked);
    read(file.data(), file.size(), checked);
  }
  return 0;
}
