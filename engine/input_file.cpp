#include "engine/input_file.hpp"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "fovea/error.hpp"

namespace fovea {

std::ifstream open_input(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (error) throw FormatError(path, text("cannot be opened: ", error.message()));
  if (!std::filesystem::is_regular_file(status)) throw FormatError(path, "is not a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FormatError(path, text("cannot be opened: ", std::system_category().message(errno)));
  return file;
}

}  // namespace fovea
