// Tables of files that lie or are damaged, and what the program must do with each.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cli_lab.hpp"
#include "models/json.hpp"

namespace fovea::test {

using Words = std::vector<std::string>;

/// What a command must do with its input: refuse it (exit status 1, one line of error, nothing else anywhere,
/// at once and in little memory) or do its work.
struct HostileCase {
  std::string name;
  std::function<void(const std::string& folder)> make;  ///< writes the input into an empty folder
  std::vector<Words> commands;                          ///< run in that folder
  std::string part;                                     ///< of the message; of stdout where accepted
  bool accepted = false;
};

std::vector<HostileCase> model_cases();       // hostile_models.cpp
std::vector<HostileCase> checkpoint_cases();  // hostile_checkpoints.cpp
std::vector<HostileCase> array_cases();       // hostile_arrays.cpp
std::vector<HostileCase> config_cases();      // hostile_configs.cpp
std::vector<HostileCase> recording_cases();   // hostile_recordings.cpp
std::vector<HostileCase> path_cases();        // hostile_paths.cpp

/// `text` with `from`, which must be there, replaced once.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw Error("test", "nothing to replace: " + from);
  return text.replace(at, from.size(), to);
}

/// The lab's configuration for a recording in this folder.
inline std::string config_for(const std::string& data) {
  return replaced(config_text, "path: retina", "path: " + data);
}

/// A safetensors file of this header and these data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  return bytes_of(std::vector<std::uint64_t>{size}) + header + data;
}

/// A safetensors file taken apart.
struct SafetensorsParts {
  Json header;
  std::string data;

  explicit SafetensorsParts(const std::string& path) {
    const std::string bytes = read_bytes(path);
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    header = Json::parse(bytes.substr(8, size));
    data = bytes.substr(8 + size);
  }
  void write(const std::string& path) const { write_bytes(path, safetensors_bytes(header.dump(), data)); }
};

}  // namespace fovea::test
