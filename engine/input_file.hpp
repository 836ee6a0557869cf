// Files to read.
#pragma once
#include <fstream>
#include <string>

namespace fovea {

/// Opens a regular file (or a link to one) for reading: a pipe or a device would block or never end.
/// FormatError with the path and the system's reason otherwise.
std::ifstream open_input(const std::string& path);

}  // namespace fovea
