// What the commands share.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/data.hpp"
#include "fovea/model.hpp"
#include "training/run_config.hpp"
#include "training/training_data.hpp"

namespace fovea::cli {

/// Exit status of the program, set by the command that ran.
using Status = int;

/// Adds one subcommand; its work is left in `run` when the command line names it.
using Run = std::function<Status()>;
void add_train(CLI::App& app, Run& run);
void add_eval(CLI::App& app, Run& run);
void add_predict(CLI::App& app, Run& run);
void add_gradients(CLI::App& app, Run& run);
void add_describe(CLI::App& app, Run& run);
void add_data(CLI::App& app, Run& run);
void add_simulate(CLI::App& app, Run& run);
void add_version(CLI::App& app, Run& run);

struct DeviceChoice {
  std::string device = "auto";
  int threads = 0;
};
/// --device and --threads.
void add_device_options(CLI::App& command, DeviceChoice& choice);
/// --seed.
void add_seed_option(CLI::App& command, std::uint64_t& seed, const std::string& what);
/// auto: CUDA where there is a device that has every kernel, else the CPU.
Device open_device(const DeviceChoice& choice);
Device open_device(const RunConfig& config, const DeviceChoice& choice);

/// Writes to stderr: `fovea: note: ..`.
void note(const std::string& message);

/// The session a command means: the given one, or the only one; ConfigError listing the known ones otherwise.
std::string chosen_session(const Model& model, const std::string& given);

/// The model's own normalisation of a session's stimulus; where its provenance has none, the identity and a
/// note on stderr.
Normalization model_normalization(const LoadedModel& loaded, const std::string& session = {});

/// The data of a run configuration, of either format.
class LoadedData {
 public:
  /// Loads them; what they warn of goes to stderr.
  explicit LoadedData(const RunConfig& config);
  const TrainingData& training() const { return *training_; }
  /// Null where the data are of the other format.
  const StaticDataSet* images() const { return images_ ? &*images_ : nullptr; }
  std::size_t sessions() const { return images_ ? images_->sessions.size() : movies_->sessions.size(); }

 private:
  std::optional<DataSet> movies_;
  std::optional<StaticDataSet> images_;
  std::unique_ptr<TrainingData> training_;
};

/// The fresh model of a run with the sessions of the data, or with those of its section where there are no
/// data yet. The files that init_mask and init_weights name are read; the model does not keep their names.
std::unique_ptr<Model> make_configured(const RunConfig& config, const TrainingData* data,
                                       const Placement& placement);

}  // namespace fovea::cli
