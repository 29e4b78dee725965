#include "trim/range_coder.h"

namespace paretrim::trim {

void Encoder::put(std::uint64_t word) {
  if (word >> 16) {
    for (std::size_t at = bytes_.size(); at-- > 0 && ++bytes_[at] == 0;) {
    }
  }
  bytes_.push_back(static_cast<std::uint8_t>(word >> 8));
  bytes_.push_back(static_cast<std::uint8_t>(word));
}

std::vector<std::uint8_t> Encoder::finish() {
  // Picks the number in the interval with the most trailing zeros, which needs the fewest bytes.
  for (int zeros = 48; zeros >= 0; zeros -= 8) {
    const std::uint64_t step = (std::uint64_t{1} << zeros) - 1;
    const std::uint64_t candidate = (low_ + step) & ~step;
    if (candidate - low_ < range_) {
      low_ = candidate;
      break;
    }
  }
  for (int word = 0; word < 3; ++word) {
    put(low_ >> 32);
    low_ = (low_ & 0xffffffff) << 16;
  }
  for (; !bytes_.empty() && bytes_.back() == 0; ++left_out_) bytes_.pop_back();
  return std::move(bytes_);
}

}  // namespace paretrim::trim
