#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <map>

#include "cli/common.hpp"
#include "cli/progress.hpp"
#include "cli/scores.hpp"
#include "engine/atomic_file.hpp"
#include "engine/input_file.hpp"
#include "engine/system_memory.hpp"
#include "fovea/safetensors.hpp"
#include "fovea/version.hpp"
#include "training/memory_estimate.hpp"
#include "training/trainability.hpp"
#include "training/trainer.hpp"
#include "training/yaml.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::vector<std::string> config_and_overrides;
  std::string from, resume;
  DeviceChoice device;
};

std::atomic<bool> stop_requested{false};
std::atomic<bool> unsaved{false};  // there is work that only a checkpoint keeps
std::atomic<int> stop_signal{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

/// While the data are loaded and while the best epoch is tested nothing is lost by stopping at once. During
/// training the first signal lets the step end and be saved; the second one does not wait.
void on_signal(int signal) {
  int none = 0;
  const bool first = stop_signal.compare_exchange_strong(none, signal);
  if (!first || !unsaved) _exit(128 + signal);
  stop_requested = true;
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction old {};
  // A terminal that closes ends the run like the others, unless nohup said that it should not.
  if (sigaction(SIGHUP, nullptr, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  // Nobody reading the progress is no reason to end a training: log.txt has it all.
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

std::string file_in(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

/// The log of a run: on stderr and, whole after every line, in log.txt.
class Log {
 public:
  Log(std::string path, bool continued) : path_(std::move(path)) {
    if (!continued || !std::filesystem::exists(path_)) return;
    std::ifstream file = open_input(path_);  // an error where it cannot be read: it would be overwritten
    text_.assign(std::istreambuf_iterator<char>(file), {});
  }
  void add(const std::string& line) {
    text_ += line + '\n';
    write_file_atomically(path_, text_);
  }
  /// For a line that a run killed right after its checkpoint did not come to write.
  void add_missing(const std::string& line) {
    if (text_.find(line + '\n') == std::string::npos) add(line);
  }

 private:
  std::string path_, text_;
};

/// Copies what an earlier model has in common: the whole core, and the readouts and shifters of sessions
/// that both know. Returns the sessions whose readout is fresh.
std::vector<std::string> start_from(const Model& model, const std::string& path, Progress& progress) {
  const LoadedModel earlier = load_model(path, model.placement());
  std::map<std::string, Tensor> known;
  for (const NamedTensor& one : earlier.model->tensors()) known.emplace(one.name, one.tensor);
  std::string fresh;
  for (const NamedTensor& one : model.tensors()) {
    const auto found = known.find(one.name);
    const bool fits = found != known.end() && found->second.shape() == one.tensor.shape();
    if (fits) {
      one.tensor.copy_from(found->second);
    } else if (found != known.end() ||
               (one.name.rfind("readout.", 0) != 0 && one.name.rfind("shifter.", 0) != 0)) {
      throw ConfigError("--from",
                        text(one.name, " of the configuration has shape ", one.tensor.shape(), ", in ", path,
                             ": ", found == known.end() ? "none" : to_string(found->second.shape())));
    } else {
      fresh += (fresh.empty() ? "" : ", ") + one.name;
    }
  }
  progress.line("started from " + path + (fresh.empty() ? "" : "; fresh: " + fresh));
  std::vector<std::string> sessions;
  const std::vector<std::string> earlier_sessions = earlier.model->sessions();
  for (const std::string& session : model.sessions())
    if (std::find(earlier_sessions.begin(), earlier_sessions.end(), session) == earlier_sessions.end())
      sessions.push_back(session);
  return sessions;
}

struct PreparedRun {
  RunConfig config;
  std::string folder;
  bool resumed = false;
};

PreparedRun prepare(const Options& options) {
  PreparedRun result;
  if (!options.resume.empty()) {
    result.folder = options.resume;
    result.resumed = true;
    const std::string config = file_in(result.folder, "config.yaml");
    if (!std::filesystem::exists(config))
      throw Error(result.folder, "no run that can go on: it has no config.yaml");
    result.config = read_run_config(config, {});
    return result;
  }
  const auto& words = options.config_and_overrides;
  result.config = read_run_config(words[0], {words.begin() + 1, words.end()});
  result.config.data.path = absolute(result.config.data.path);
  if (result.config.static_data)
    for (std::string& path : result.config.static_data->paths) path = absolute(path);
  result.config.output = absolute(result.config.output);
  return result;
}

/// The run folder. The configuration comes after the initial checkpoint: a folder that has one can be
/// resumed, however early the run was killed.
std::string open_folder(const RunConfig& config, const Model& model, Trainer& trainer) {
  const std::string folder = create_run_folder(config.output, config.experiment);
  try {
    trainer.begin(folder);
    RunConfig resolved = config;
    resolved.model = Json::parse(model.config());
    resolved.model.erase("sessions");
    write_file_atomically(file_in(folder, "config.yaml"), write_yaml(write_run_config(resolved)));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);  // no run has begun
    throw;
  }
  return folder;
}

/// The log of a run, with the last epoch of the checkpoint in it.
Log open_log(const PreparedRun& run, const TrainingState& state) {
  Log log(file_in(run.folder, "log.txt"), run.resumed);
  if (!state.history.empty())
    log.add_missing(Progress::epoch_line(state.history.back(), state.best.epoch == state.epoch - 1));
  return log;
}

RunOptions run_options(const PreparedRun& run) {
  RunOptions options;
  options.folder = run.folder;
  options.training = run.config.training;
  options.data = run.config.data;
  options.seed = static_cast<std::uint64_t>(run.config.seed);
  return options;
}

/// The most that training held, beside what `describe` said.
std::string memory_used(const Device& device) {
  return fmt::format("memory: {:.1f} MB of tensors at most, {:.1f} MB resident",
                     static_cast<double>(device.memory().bytes_at_peak) / 1e6,
                     static_cast<double>(peak_resident_memory()) / 1e6);
}

/// Scores the best epoch: test.csv, the provenance of the model file, the last lines of log and stdout.
void test_best(const PreparedRun& run, const TrainingData& data, const Placement& placement, Log& log) {
  const std::string memory = memory_used(placement.device);
  if (!data.has_tests()) {
    log.add(memory);
    return note(run.config.static_data ? "no trials of the tier test"
                                       : "no test movies: set data.test_names to test the model");
  }
  const std::string best = file_in(run.folder, "model.safetensors");
  const LoadedModel loaded = load_model(best, placement);
  const auto scores = data.evaluate(*loaded.model);
  write_file_atomically(file_in(run.folder, "test.csv"), test_csv(scores));
  record_scores(best, scores);
  const ScoreSummary summary = summarize(scores);
  log.add(
      text(memory, "\ntest correlation ", summary.mean_correlation, " over ", summary.neurons, " neurons"));
  print_scores(scores);
}

Status train(PreparedRun run, const Options& options) {
  watch_signals();
  const Device device = open_device(run.config, options.device);
  const Placement placement{device, DType::f32};
  const LoadedData loaded(run.config);
  const TrainingData& data = loaded.training();
  std::optional<Checkpoint> checkpoint;
  if (run.resumed) checkpoint = read_checkpoint(checkpoint_path(run.folder), device);
  const std::unique_ptr<Model> model =
      run.resumed ? make_model(*checkpoint, placement) : make_configured(run.config, &data, placement);
  data.check_trainable(*model);
  check_training_memory(*model, run.config.training, data.batch_shapes(*model));
  Progress progress(run.config.training.max_epochs, checkpoint ? checkpoint->state.epoch : 0,
                    isatty(STDERR_FILENO));
  std::vector<std::string> fresh = model->sessions();
  if (!options.from.empty()) fresh = start_from(*model, options.from, progress);
  std::string placed;
  if (run.config.init_at_receptive_fields && !run.resumed) {
    placed = text("readouts of ", data.start_at_receptive_fields(*model, fresh),
                  " neurons start where they respond");
    progress.line(placed);
  }

  std::optional<Log> log;
  TrainingHooks hooks;
  hooks.on_batch = [&](std::int64_t epoch, std::int64_t batch, std::int64_t batches,
                       const StepLosses& losses) { progress.batch(epoch, batch, batches, losses); };
  hooks.on_epoch = [&](const EpochMetrics& metrics, bool best) { log->add(progress.epoch(metrics, best)); };
  hooks.log = [&](const std::string& line) {
    progress.line(line);
    log->add(line);
  };
  {
    Trainer trainer(*model, data, run_options(run),
                    hooks);  // whatever is wrong is said before anything is written
    if (checkpoint) trainer.resume(*checkpoint);
    unsaved = true;
    if (run.resumed) remove_abandoned_temporaries(run.folder);
    if (!run.resumed) run.folder = open_folder(run.config, *model, trainer);
    log.emplace(open_log(run, trainer.state()));
    log->add(text("fovea ", version(), run.resumed ? " goes on with " : " trains ", model->class_name(),
                  " of ", model->parameter_count(), " parameters on ", loaded.sessions(), " sessions, data ",
                  data.content_hash()));
    if (!placed.empty()) log->add(placed);
    progress.line("run folder " + run.folder);
    trainer.run(&stop_requested);
    unsaved = false;
  }
  if (stop_requested) {
    progress.line("interrupted; go on with: fovea train --resume " + run.folder);
    return 128 + stop_signal.load();
  }
  test_best(run, data, placement, *log);
  return 0;
}

}  // namespace

void add_train(CLI::App& app, cli::Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "Trains a model and tests its best epoch");
  command->add_option("CONFIG", options->config_and_overrides,
                      "run configuration, then section.key=value ..");
  command->add_option(
      "--from", options->from,
      "model file to start from: its core, and readouts with their positions of shared sessions");
  command->add_option("--resume", options->resume, "run folder to go on with");
  add_device_options(*command, options->device);
  command->footer(
      "SIGINT, SIGTERM and SIGHUP let the step end, save, and exit with 128 + signal. A second one stops at\n"
      "once, and so does one before or after training. --resume goes on, even after kill -9.\n\n"
      "Example: fovea train configs/salamander_wn.yaml data.path=salamander_wn seed=43 "
      "training.max_epochs=20");
  command->callback([=, &run] {
    const bool resumed = !options->resume.empty();
    if (resumed && (!options->config_and_overrides.empty() || !options->from.empty()))
      throw CLI::ExcludesError("--resume", "CONFIG and --from");
    if (!resumed && options->config_and_overrides.empty()) throw CLI::RequiredError("CONFIG");
    run = [=] { return train(prepare(*options), *options); };
  });
}

}  // namespace fovea::cli
