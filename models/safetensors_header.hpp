// The JSON header of a safetensors file, apart from the bytes of the tensors.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/shape.hpp"

namespace fovea {

constexpr std::uint64_t most_header_bytes = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // bytes from the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// Parses and checks a header that is followed by `data_bytes` bytes; entries come in the order of their
/// data. FormatError names `path`, the field and its value.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                           const std::string& path);

/// The header's bytes, padded by spaces to a multiple of 8. FormatError for what a reader would refuse: a
/// name twice, `__metadata__` as a name, text that is not UTF-8, too much of it.
std::string format_safetensors_header(const SafetensorsHeader& header, const std::string& path);

}  // namespace fovea
