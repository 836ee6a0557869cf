// Tables of text.
#pragma once
#include <string>

namespace fovea {

/// A field of a table: quoted where a comma, quote or line break needs it (RFC 4180).
std::string csv_field(const std::string& value);

}  // namespace fovea
