// The coding byte at the start of a record, and the check at the end of its coded stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "trim/bytes.h"
#include "trim/range_coder.h"

namespace paretrim::trim {

inline std::uint8_t coding_of(const std::uint8_t* data, std::size_t size, std::uint8_t known) {
  if (size == 0) corrupt("it is empty; it must begin with its coding");
  if (data[0] > known) corrupt("its coding is " + std::to_string(data[0]) + "; it must be 0 to " + std::to_string(known));
  return data[0];
}

inline std::vector<std::uint8_t> with_coding(std::uint8_t coding, const std::vector<std::uint8_t>& body) {
  std::vector<std::uint8_t> result;
  result.reserve(body.size() + 1);
  result.push_back(coding);
  result.insert(result.end(), body.begin(), body.end());
  return result;
}

// Refuses bytes after the coded stream, which would not change the decoded values. The last few bytes cannot be checked, because
// a decoder reads ahead.
inline void check_end(const Decoder& decoder) {
  if (!decoder.ended()) corrupt("its coded stream does not end where its values do");
}

}  // namespace paretrim::trim
