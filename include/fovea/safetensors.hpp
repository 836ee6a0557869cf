// The safetensors file format: named tensors and string metadata.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// Content of a safetensors file, tensors in the order of the file.
struct Safetensors {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  const Tensor* find(const std::string& name) const;  ///< null when there is none
};

/// Reads F32, F64 and I64 tensors into `device`. The header is not trusted: size (at most 100 MB), offsets
/// inside the file, no overlap, no gap, dtype x shape = bytes, duplicate names and JSON depth are checked
/// before anything is allocated; a violation is a FormatError naming file, field and value.
Safetensors read_safetensors(const std::string& path, const Device& device);

/// Writes the file by way of a temporary name in the same folder, fsync and rename: the old file or the new
/// one, never half of it. The same content gives the same bytes. Throws Error when the system refuses.
void write_safetensors(const std::string& path, const Safetensors& content);

}  // namespace fovea
