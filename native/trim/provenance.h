// The JSON text of a file's provenance; what it must hold is written in SPEC.md, "Provenance".
#pragma once

#include <string_view>

namespace paretrim::trim {

// Throws corrupt_file: the text, which is UTF-8, is not empty and no provenance.
void check_provenance(std::string_view text);

}  // namespace paretrim::trim
