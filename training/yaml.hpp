// YAML configurations as JSON.
#pragma once
#include <string>
#include <vector>

#include "models/json.hpp"

namespace fovea {

/// Reads one YAML document. Plain scalars are null (also None, ~ and nothing), booleans (true, True, false,
/// False ..), whole numbers, floating point numbers (1e-4 as well, .inf and .nan) or text; quoted ones are
/// always text. A Python tuple, (2, 150, 18, 16), is a list, also inside brackets and braces. Duplicate keys,
/// keys that are not scalars, nesting deeper than 32 levels and documents of more than 100,000 values
/// (aliases counted where they are used) are FormatErrors that name file and line.
Json read_yaml_file(const std::string& path);
Json parse_yaml(const std::string& where, const std::string& yaml);

/// One value by the same rules: the right-hand side of `key=value` on a command line.
Json parse_yaml_value(const std::string& where, const std::string& yaml);

/// Sets `section.key=value` in a document, making maps on the way. ConfigError when there is no `=`, no key,
/// or the path leads through something that is no map.
void apply_override(Json& document, const std::string& assignment);

/// The document as YAML text that read_yaml_file gives back unchanged.
std::string write_yaml(const Json& document);

}  // namespace fovea
