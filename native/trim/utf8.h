// Whether bytes are text.
#pragma once

#include <string_view>

namespace paretrim::trim {

// UTF-8 as Unicode defines it: shortest forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view bytes);

}  // namespace paretrim::trim
