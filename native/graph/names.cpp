#include "graph/names.h"

#include <cstdint>

namespace paretrim {
namespace {

struct CodePoints {
  std::uint32_t first, last;
};

// Control characters, invisible characters, and those that change the text direction. The same as in paretrim/graph/names.py.
constexpr CodePoints invisible[] = {{0x0, 0x1F},      {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},
                                    {0x180E, 0x180E}, {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},
                                    {0xD800, 0xDFFF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xE0000, 0xE0FFF}};

}  // namespace

bool printable(std::string_view name) {
  std::size_t characters = 0;
  for (std::size_t index = 0; index < name.size(); ++characters) {
    const auto lead = static_cast<unsigned char>(name[index]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0 || length > name.size() - index) return false;
    std::uint32_t point = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t next = 1; next < length; ++next) {
      const auto byte = static_cast<unsigned char>(name[index + next]);
      if ((byte & 0xC0) != 0x80) return false;
      point = point << 6U | (byte & 0x3FU);
    }
    for (const CodePoints& range : invisible) {
      if (range.first <= point && point <= range.last) return false;
    }
    index += length;
  }
  return characters >= 1 && characters <= longest_name;
}

}  // namespace paretrim
