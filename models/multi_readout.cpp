#include "models/multi_readout.hpp"

#include "fovea/ops.hpp"

namespace fovea {
namespace {

constexpr auto where = "FiringRateEncoder";

/// The general section with what a session's own overrides; `match_ids` there are those of whatever is
/// shared.
Json section_of(const SessionOptions& session, const Json& general) {
  if (session.readout.empty()) return general;
  Json section = general;
  Json own = Json::parse(session.readout);
  if (own.contains("class") && own["class"] != general["class"])
    refuse_value(where, text("sessions.", session.key, ".readout.class"),
                 text("that of the general readout, ", general["class"].dump()), own["class"]);
  if (const auto ids = own.find(match_ids_key); ids != own.end()) {
    bool shared = false;
    for (const char* key : {"shared_features", "shared_grid"}) {
      if (section.value(key, Json()).is_null()) continue;
      section[key][match_ids_key] = *ids;
      shared = true;
    }
    if (!shared)
      throw ConfigError(where, text("sessions.", session.key,
                                    ".readout.match_ids: the general readout shares "
                                    "neither features nor grid: ",
                                    shown(*ids)));
    own.erase(match_ids_key);
  }
  section.update(own);
  return section;
}

}  // namespace

MultiReadout::MultiReadout(const Geometry& g, const std::vector<SessionOptions>& sessions,
                           const Json& section, bool clone, const Placement& p, Random& random) {
  const ImageReadoutClass& kind = image_readout_class(section);
  for (const SessionOptions& session : sessions) {
    if (clone && !readouts_.empty()) {
      const std::int64_t neurons = sessions.front().n_neurons;
      if (session.n_neurons != neurons)
        throw ConfigError(where, text("clone_readout needs equal numbers of neurons: ", neurons, " in ",
                                      sessions.front().key, ", ", session.n_neurons, " in ", session.key));
      if (!session.readout.empty())
        throw ConfigError(where,
                          text("sessions.", session.key,
                               ".readout: a cloned readout has no parameters of its own: ", session.readout));
      auto own = std::make_unique<Clone>();
      own->alpha = own->add_tensor("alpha", Role::parameter, Tensor::full({neurons}, 1.0, p.dtype, p.device));
      own->beta = own->add_tensor("beta", Role::parameter, Tensor::zeros({neurons}, p.dtype, p.device));
      add_child(session.key, *own);
      clones_.push_back(std::move(own));
      continue;
    }
    readouts_.push_back(kind.make({g.channels, g.height, g.width, session.n_neurons}, session,
                                  section_of(session, section), p, random));
    add_child(session.key, *readouts_.back());
  }
}

Tensor MultiReadout::forward(std::size_t session, const Tensor& x, const ReadoutInput& input) const {
  const Tensor y = source(session).forward(x, input);
  const Clone* clone = clone_of(session);
  return clone ? scale_and_shift(y, clone->alpha, clone->beta) : y;
}

Tensor MultiReadout::regularizer(std::size_t session) const {
  return clone_of(session) ? Tensor() : source(session).regularizer();
}

std::string MultiReadout::line(std::size_t session) const {
  return clone_of(session) ? text("ClonedReadout of ", source(session).line()) : source(session).line();
}

}  // namespace fovea
