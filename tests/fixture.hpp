// Golden files under tests/fixtures, found through the environment variable FOVEA_FIXTURES.
#pragma once
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "fovea/safetensors.hpp"

namespace fovea::test {

inline std::string fixture_folder() {
  const char* folder = std::getenv("FOVEA_FIXTURES");
  if (!folder || !*folder) throw Error("fixtures", "the environment variable FOVEA_FIXTURES is not set");
  return folder;
}

/// The file `<name>.safetensors`.
inline Safetensors load_fixture(const std::string& name, const Device& device) {
  return read_safetensors(fixture_folder() + '/' + name + ".safetensors", device);
}

/// The file `<name>.json`.
inline nlohmann::json load_json_fixture(const std::string& name) {
  const std::string path = fixture_folder() + '/' + name + ".json";
  std::ifstream file(path);
  if (!file) throw Error(path, "cannot be opened");
  return nlohmann::json::parse(file);
}

/// A tensor that must be there.
inline Tensor tensor_of(const Safetensors& file, const std::string& name) {
  const Tensor* tensor = file.find(name);
  if (!tensor) throw Error("fixtures", text("there is no tensor ", name));
  return *tensor;
}

}  // namespace fovea::test
