// The first byte of a record, and the end of its coded stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "trim/bytes.h"
#include "trim/range_coder.h"

namespace paretrim::trim {

inline std::uint8_t coding_of(const std::uint8_t* data, std::size_t size, std::uint8_t known) {
  if (size == 0) corrupt("it has no bytes and begins with its coding");
  if (data[0] > known) corrupt("its coding is " + std::to_string(data[0]) + "; known are 0 to " + std::to_string(known));
  return data[0];
}

inline std::vector<std::uint8_t> with_coding(std::uint8_t coding, const std::vector<std::uint8_t>& body) {
  std::vector<std::uint8_t> result;
  result.reserve(body.size() + 1);
  result.push_back(coding);
  result.insert(result.end(), body.begin(), body.end());
  return result;
}

// Anything could stand behind, and the values would be the same. (Of the few bytes that a decoder is ahead, that is still so.)
inline void check_end(const Decoder& decoder) {
  if (!decoder.ended()) corrupt("its coded stream does not end where its values do");
}

}  // namespace paretrim::trim
