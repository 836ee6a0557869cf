// JSON that keeps the order of its keys.
#pragma once
#include <nlohmann/json.hpp>

namespace fovea {

using Json = nlohmann::ordered_json;

}  // namespace fovea
