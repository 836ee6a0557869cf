#include "cli/common.hpp"

#include <algorithm>
#include <charconv>
#include <iostream>

#include "cli/inputs.hpp"
#include "fovea/klindt_core_readout.hpp"
#include "fovea/npy.hpp"
#include "kernels/tables.hpp"
#include "models/parameters.hpp"
#include "training/trainer.hpp"

namespace fovea::cli {
namespace {

/// Whether positions are predicted from a source grid that the section does not give.
bool wants_source_grid(const Json& model) {
  const Json readout = model.value("readout", Json());
  if (!readout.is_object()) return false;
  const auto given = [&](const char* key) { return !readout.value(key, Json()).is_null(); };
  return given("grid_mean_predictor") && !given("source_grid");
}

/// The model section of a run completed with the sessions of the data.
Json with_sessions(const RunConfig& config, const TrainingData& data) {
  Json model = config.model;
  if (model.contains("sessions"))
    throw ConfigError("model", "sessions come from the data; n_neurons_dict may be given to check them");
  Json sessions = Json::object();
  for (const SessionOptions& session : data.session_options(wants_source_grid(model))) {
    sessions[session.key] = {{"n_neurons", session.n_neurons}};
    if (session.mean_activity) sessions[session.key]["mean_activity"] = *session.mean_activity;
    if (!session.readout.empty()) sessions[session.key]["readout"] = Json::parse(session.readout);
  }
  model["sessions"] = sessions;
  return model;
}

}  // namespace

void add_device_options(CLI::App& command, DeviceChoice& choice) {
  command.add_option("--device", choice.device, "cpu | cuda | emulator | auto")->capture_default_str();
  command.add_option("--threads", choice.threads, "CPU threads, 0: all")->capture_default_str();
}

void add_seed_option(CLI::App& command, std::uint64_t& seed, const std::string& what) {
  // CLI11 would take a negative number modulo 2^64.
  const auto check = [](const std::string& word) -> std::string {
    std::uint64_t value = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, value);
    if (error == std::errc() && stop == end) return {};
    return "must be a whole number from 0 to 2^64 - 1: " + word;
  };
  command.add_option("--seed", seed, what)->check(check)->capture_default_str();
}

Device open_device(const DeviceChoice& choice) {
  check_name("command line", "--device", choice.device, {"auto", "cpu", "cuda", "emulator"});
  if (choice.device == "cpu") return cpu_device(choice.threads);
  if (choice.device == "cuda") return cuda_device();
  if (choice.device == "emulator") return emulator_device(choice.threads);
  try {
    const Device cuda = cuda_device();
    const auto& status = kernel_status(cuda);
    const auto empty = [](const EntryStatus& entry) { return entry.origin == EntryOrigin::empty; };
    if (std::none_of(status.begin(), status.end(), empty)) return cuda;
  } catch (const DeviceError&) {
    // No driver or no GPU is no reason to fail where nobody asked for one.
  }
  return cpu_device(choice.threads);
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

Normalization model_normalization(const LoadedModel& loaded, const std::string& session) {
  if (const auto normalization = normalization_of(loaded.provenance, session)) return *normalization;
  note("the model file has no normalisation; the stimulus is used as it is");
  return {};
}

LoadedData::LoadedData(const RunConfig& config) {
  if (config.static_data) {
    images_ = open_sensorium(*config.static_data);
    training_ = training_data(*images_);
  } else {
    movies_ = load_openretina(config.data);
    training_ = training_data(*movies_, config.data);
  }
  for (const std::string& warning : training_->warnings()) note(warning);
}

std::unique_ptr<Model> make_configured(const RunConfig& config, const TrainingData* data,
                                       const Placement& placement) {
  if (config.model.is_null()) throw ConfigError("config", "the section 'model' is missing");
  Json section = data ? with_sessions(config, *data) : config.model;
  const auto file = [&](const char* key) {
    const Json value = section.value(key, Json());
    if (!value.is_string()) return std::string();
    section.erase(key);
    return value.get<std::string>();
  };
  const std::string mask = file("init_mask"), weights = file("init_weights");
  std::unique_ptr<Model> model =
      make_model(section.dump(), placement, static_cast<std::uint64_t>(config.seed));
  const auto set = [&](const std::string& path, void (*into)(Model&, const Tensor&)) {
    if (path.empty()) return;
    try {
      into(*model, read_values(open_npy(path), placement));
    } catch (const ShapeError& error) {
      throw FormatError(path, error.what());
    }
  };
  set(mask, set_init_mask);
  set(weights, set_init_weights);
  return model;
}

}  // namespace fovea::cli
