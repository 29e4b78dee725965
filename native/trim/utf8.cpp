#include "trim/utf8.h"

#include <cstddef>
#include <cstdint>

namespace paretrim::trim {

bool is_utf8(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const auto first = static_cast<std::uint8_t>(bytes[at++]);
    if (first < 0x80) continue;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || bytes.size() - at < static_cast<std::size_t>(more)) return false;
    std::uint32_t point = first & (0x3fU >> more);
    for (int i = 0; i < more; ++i) {
      const auto next = static_cast<std::uint8_t>(bytes[at++]);
      if ((next & 0xc0) != 0x80) return false;
      point = point << 6 | (next & 0x3f);
    }
    const std::uint32_t smallest = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
  }
  return true;
}

}  // namespace paretrim::trim
