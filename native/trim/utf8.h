// UTF-8 validation.
#pragma once

#include <string_view>

namespace paretrim::trim {

// Whether bytes are valid UTF-8: shortest forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view bytes);

}  // namespace paretrim::trim
