#include "cli/common.hpp"

#include <iostream>

#include "training/trainer.hpp"

namespace fovea::cli {

void add_device_options(CLI::App& command, DeviceChoice& choice) {
  command.add_option("--device", choice.device, "cpu | cuda | emulator | auto")->capture_default_str();
  command.add_option("--threads", choice.threads, "CPU threads, 0: all")->capture_default_str();
}

Device open_device(const DeviceChoice& choice) {
  if (choice.device == "cpu") return cpu_device(choice.threads);
  if (choice.device == "cuda") return cuda_device();
  if (choice.device == "emulator") return emulator_device(choice.threads);
  if (choice.device != "auto")
    throw ConfigError("--device", text("must be one of cpu, cuda, emulator, auto: ", choice.device));
  try {
    return cuda_device();
  } catch (const DeviceError&) {
    return cpu_device(choice.threads);
  }
}

Device open_device(const RunConfig& config, const DeviceChoice& choice) {
  DeviceChoice merged = choice;
  if (choice.device == "auto") merged.device = config.device;
  if (choice.threads == 0) merged.threads = static_cast<int>(config.threads);
  return open_device(merged);
}

void note(const std::string& message) { std::cerr << "fovea: note: " << message << '\n'; }

std::string chosen_session(const Model& model, const std::string& given) {
  const std::vector<std::string> sessions = model.sessions();
  std::string known;
  for (const std::string& session : sessions) {
    if (session == given) return session;
    known += (known.empty() ? "" : ", ") + session;
  }
  if (given.empty() && sessions.size() == 1) return sessions[0];
  throw ConfigError(
      "--session", text(given.empty() ? "is needed" : "unknown session '" + given + "'", ". Known: ", known));
}

Normalization model_normalization(const LoadedModel& loaded) {
  if (const auto normalization = normalization_of(loaded.provenance)) return *normalization;
  note("the model file has no normalisation; the stimulus is used as it is");
  return {};
}

Json with_sessions(const RunConfig& config, const DataSet& data) {
  if (config.model.is_null()) throw ConfigError("config", "the section 'model' is missing");
  Json model = config.model;
  if (model.contains("sessions"))
    throw ConfigError("model", "sessions come from the data; n_neurons_dict may be given to check them");
  Json sessions = Json::object();
  for (const Session& session : data.sessions) {
    sessions[session.key] = {{"n_neurons", session.neurons}};
    if (!session.mean_activity.empty()) sessions[session.key]["mean_activity"] = session.mean_activity;
  }
  model["sessions"] = sessions;
  return model;
}

}  // namespace fovea::cli
