// What the sections of the image readouts share.
#pragma once
#include "models/image_readout.hpp"
#include "models/registry.hpp"

namespace fovea {

/// Where a message about the readout of a session comes from.
inline std::string readout_place(const char* name, const std::string& session) {
  return text(name, ", session ", session);
}

inline void check_match_ids(const std::string& where, const char* key, const SharedByMatch& shared,
                            std::int64_t neurons) {
  if (static_cast<std::int64_t>(shared.match_ids.size()) != neurons)
    refuse_value(where, text(key, ".match_ids"), text("a list of ", neurons, " ids, one per neuron"),
                 Json(shared.match_ids.size()));
}

inline void check_readout_weights(const std::string& where, double weights) {
  constexpr double most = 1e9;
  if (weights > most)
    throw ConfigError(where, text("a readout must have at most ", most, " weights: ", weights));
}

}  // namespace fovea
