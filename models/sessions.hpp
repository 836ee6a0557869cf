// The `sessions` of a model section.
#pragma once
#include <string>
#include <vector>

#include "fovea/core_readout.hpp"
#include "models/json.hpp"

namespace fovea {

/// Whether a session may have a `readout` of its own, a map that overrides the general section.
enum class SessionReadouts { none, overriding };

/// Reads `sessions`, or `n_neurons_dict` where there are none; both, and `data_info`, must agree. Keys with
/// `/`, control characters or nothing in them are errors, as are counts below 1 and mean activities of
/// another length.
std::vector<SessionOptions> read_sessions(const std::string& where, const Json& section,
                                          SessionReadouts readouts = SessionReadouts::none);
Json write_sessions(const std::vector<SessionOptions>& sessions);

}  // namespace fovea
