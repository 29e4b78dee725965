// Checks the provenance of a file, a JSON text. See SPEC.md, "Provenance".
#pragma once

#include <string_view>

namespace paretrim::trim {

// Throws corrupt_file if the text is neither empty nor a valid provenance. It must be UTF-8.
void check_provenance(std::string_view text);

}  // namespace paretrim::trim
