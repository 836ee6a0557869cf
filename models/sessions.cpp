#include "models/sessions.hpp"

#include <algorithm>

#include "models/parameters.hpp"

namespace fovea {
namespace {

void check_key(const std::string& where, const std::string& key) {
  const bool bad = key.empty() || std::any_of(key.begin(), key.end(), [](unsigned char c) {
                     return c == '/' || c < 0x20 || c == 0x7f;
                   });
  if (bad) refuse_value(where, "sessions", "named without '/', control characters or emptiness", Json(key));
}

std::int64_t read_count(const std::string& where, const std::string& key, const Json& value) {
  std::int64_t count = 0;
  read_json(where, key, value, count);
  constexpr std::int64_t most = 10'000'000;
  if (count < 1 || count > most) refuse_value(where, key, text("1 to ", most), value);
  return count;
}

SessionOptions read_session(const std::string& where, const std::string& key, const Json& value,
                            SessionReadouts readouts) {
  check_key(where, key);
  const std::string what = "sessions." + key;
  if (!value.is_object() || !value.contains("n_neurons"))
    refuse_value(where, what, "a map with n_neurons", value);
  SessionOptions session{key, read_count(where, what + ".n_neurons", value["n_neurons"]), {}, {}};
  for (const auto& [name, content] : value.items()) {
    if (name == "mean_activity") {
      read_json(where, what + ".mean_activity", content, session.mean_activity);
    } else if (name == "readout" && readouts == SessionReadouts::overriding) {
      if (content.is_null()) continue;
      if (!content.is_object()) refuse_value(where, what + ".readout", "a map of parameters", content);
      if (!content.empty()) session.readout = content.dump();
    } else if (name != "n_neurons") {
      std::vector<std::string> known{"n_neurons", "mean_activity"};
      if (readouts == SessionReadouts::overriding) known.emplace_back("readout");
      refuse_key(text(where, '.', what), name, known);
    }
  }
  if (session.mean_activity && static_cast<std::int64_t>(session.mean_activity->size()) != session.n_neurons)
    refuse_value(where, what + ".mean_activity",
                 text("a list of n_neurons = ", session.n_neurons, " numbers"),
                 Json(session.mean_activity->size()));
  return session;
}

/// `dict` ({key: count}) must name the same sessions with the same counts.
void check_agreement(const std::string& where, const std::string& name, const Json& dict,
                     const std::vector<SessionOptions>& sessions) {
  if (!dict.is_object()) refuse_value(where, name, "a map of session to number of neurons", dict);
  bool agrees = dict.size() == sessions.size();
  for (const SessionOptions& session : sessions)
    agrees = agrees && dict.contains(session.key) && dict[session.key] == session.n_neurons;
  if (!agrees) {
    Json have = Json::object();
    for (const SessionOptions& session : sessions) have[session.key] = session.n_neurons;
    throw ConfigError(where, text(name, " must agree with the sessions ", have.dump(), ": ", dict.dump()));
  }
}

/// data_info.input_shape is one frame (channels, height, width), or the whole in_shape.
void check_input_shape(const std::string& where, const Json& info, const Json& in_shape) {
  if (!info.contains("input_shape") || !in_shape.is_array() || in_shape.size() < 3) return;
  const Json& given = info["input_shape"];
  const std::size_t axes = in_shape.size();
  if (given != in_shape && given != Json{in_shape[0], in_shape[axes - 2], in_shape[axes - 1]})
    throw ConfigError(
        where, text("data_info.input_shape must agree with in_shape ", in_shape.dump(), ": ", given.dump()));
}

}  // namespace

std::vector<SessionOptions> read_sessions(const std::string& where, const Json& section,
                                          SessionReadouts readouts) {
  std::vector<SessionOptions> sessions;
  const Json none;
  const auto value_of = [&](const char* key) -> const Json& {
    const auto found = section.find(key);
    return found == section.end() ? none : *found;
  };
  const Json &given = value_of("sessions"), &counts = value_of("n_neurons_dict"),
             &info = value_of("data_info");
  if (!given.is_null()) {
    if (!given.is_object()) refuse_value(where, "sessions", "a map of session to {n_neurons: N}", given);
    for (const auto& [key, value] : given.items())
      sessions.push_back(read_session(where, key, value, readouts));
  } else if (!counts.is_null()) {
    if (!counts.is_object())
      refuse_value(where, "n_neurons_dict", "a map of session to number of neurons", counts);
    for (const auto& [key, value] : counts.items()) {
      check_key(where, key);
      sessions.push_back({key, read_count(where, "n_neurons_dict." + key, value), {}, {}});
    }
  }
  if (sessions.empty())
    throw ConfigError(where, "at least one session is needed: sessions or n_neurons_dict");
  if (!counts.is_null()) check_agreement(where, "n_neurons_dict", counts, sessions);
  if (!info.is_null()) {
    if (!info.is_object()) refuse_value(where, "data_info", "a map", info);
    if (info.contains("n_neurons_dict"))
      check_agreement(where, "data_info.n_neurons_dict", info["n_neurons_dict"], sessions);
    check_input_shape(where, info, section.value("in_shape", Json()));
  }
  return sessions;
}

Json write_sessions(const std::vector<SessionOptions>& sessions) {
  Json result = Json::object();
  for (const SessionOptions& session : sessions) {
    result[session.key] = {{"n_neurons", session.n_neurons}};
    if (session.mean_activity) result[session.key]["mean_activity"] = *session.mean_activity;
    if (!session.readout.empty()) result[session.key]["readout"] = Json::parse(session.readout);
  }
  return result;
}

}  // namespace fovea
