#include <fmt/core.h>

#include <filesystem>
#include <set>

#include "cli/common.hpp"
#include "data/sample_form.hpp"
#include "engine/system_memory.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "training/memory_estimate.hpp"
#include "training/trainability.hpp"
#include "training/trainer.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string what;
  std::vector<std::string> overrides;
  DeviceChoice device;
};

bool is_config(const std::string& path) {
  const auto ends = [&](const std::string& suffix) {
    return path.size() >= suffix.size() &&
           path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
  };
  return ends(".yaml") || ends(".yml");
}

/// What is described, and how it would be trained.
struct Described {
  std::unique_ptr<Model> model;
  TrainingOptions training;
  BatchShapes batches;
  std::string why_untrainable;
  bool configured = false;  // by a run configuration, not a model file
  std::vector<std::string>
      frozen;                // name prefixes that are not trained, or were not in a model file's training
  std::size_t resident = 0;  // memory that the program takes, with the data where they were loaded
};

bool no_path(const RunConfig& config) {
  return config.static_data ? config.static_data->paths.empty() : config.data.path.empty();
}

/// Whether the model section alone says what there is to describe, because there are no data yet.
bool without_data(const RunConfig& config) {
  const auto given = [&](const char* key) { return !config.model.value(key, Json()).is_null(); };
  if (!given("n_neurons_dict") && !given("sessions")) return false;
  if (no_path(config)) return true;
  std::error_code ignored;
  return !std::filesystem::exists(config.static_data ? config.static_data->paths.front() : config.data.path,
                                  ignored);
}

/// The model of a configuration; its sessions come from the data, or from n_neurons_dict where there are none
/// yet.
Described read_configured(const Options& options, const Placement& placement) {
  const RunConfig config = read_run_config(options.what, options.overrides, DataSection::optional);
  if (config.model.is_null()) throw ConfigError("config", "the section 'model' is missing");
  Described described;
  described.training = config.training;
  described.configured = true;
  if (without_data(config)) {
    described.model = make_configured(config, nullptr, placement);
  } else if (no_path(config)) {
    throw ConfigError("describe",
                      text("sessions are needed: ", config.static_data ? "data.paths" : "data.path",
                           ", or model.n_neurons_dict without data"));
  } else {
    const LoadedData data(config);
    described.model = make_configured(config, &data.training(), placement);
    data.training().check_fits(*described.model);
  }
  const Model& model = freeze(*described.model, config.training.freeze);
  if (config.init_at_receptive_fields)
    for (const std::string& session : model.sessions()) check_startable(model, session);
  if (config.static_data) {
    described.why_untrainable = why_untrainable(model);
    described.batches = batch_shapes(model, *config.static_data);
  } else {
    described.batches = batch_shapes(model, config.data);  // says as well where the data do not fit
    described.why_untrainable = why_untrainable(model, config.data);
  }
  described.resident = resident_memory();
  return described;
}

Described read_file(const Options& options, const Placement& placement) {
  if (!options.overrides.empty())
    throw ConfigError("describe", "overrides need a configuration, not a model file");
  Described described;
  LoadedModel loaded = load_model(options.what, placement);
  described.model = std::move(loaded.model);
  for (std::string name : frozen_of(loaded.provenance)) {
    if (!described.model->freeze(name))
      note(text("the model file says that '", name, "' was frozen, which names no tensors"));
    else
      described.training.freeze.push_back(std::move(name));
  }
  const Model& model = *described.model;
  DataOptions one_sample;
  one_sample.batch_size = one_sample.num_val_clips = 1;
  one_sample.train_chunk_size = one_sample.clip_length = model.takes_movies() ? model.in_shape()[1] : 1;
  described.batches = batch_shapes(model, one_sample);
  described.why_untrainable = why_untrainable(model, one_sample);
  return described;
}

std::string megabytes(std::size_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

/// A file's in_shape may claim anything: what one sample of it takes is tried up to a gibibyte.
constexpr std::size_t most_for_a_file = std::size_t{1} << 30;

void print_memory(const Described& described) {
  const std::size_t most = described.configured ? available_memory() : most_for_a_file;
  const BatchShapes& batches = described.batches;
  std::string why = described.why_untrainable;
  if (!why.empty()) why = ", the model cannot be trained: " + why;
  std::optional<TrainingMemory> memory;
  if (why.empty()) {
    try {
      memory = estimate_training_memory(*described.model, described.training, batches, most);
    } catch (const ShapeError& error) {  // batch norm of a single value
      why = text(": ", error.what());
    } catch (const ConfigError& error) {  // nothing is left to learn
      why = text(": ", error.what());
    }
  }
  if (batches.form.images)
    fmt::print("training step, batch {} images: ",
               std::max<std::int64_t>(batches.form.samples(batches.batch_size, batches.chunk_frames), 0));
  else
    fmt::print("training step, batch {} x {} frames: ", batches.batch_size, batches.chunk_frames);
  if (!why.empty()) return fmt::print("not measured{}\n", why);
  if (!memory) return fmt::print("not measured, at most eight samples take over {}\n", megabytes(most));
  fmt::print("{} (parameters, gradients and moments {}, batch {}, activations and workspace {})\n",
             megabytes(memory->training_step()), megabytes(memory->model), megabytes(memory->batch),
             megabytes(memory->step));
  if (described.configured)
    fmt::print("training with validation clips of {} frames: {}; with program and data about {} resident\n",
               batches.clip_frames, megabytes(memory->peak()),
               megabytes(described.resident + memory->peak()));
}

/// What training leaves as it is, or left, name by name, and how much it changes.
void print_frozen(const Described& described) {
  if (described.training.freeze.empty()) return;
  const std::vector<NamedTensor> tensors = described.model->tensors();
  std::int64_t learnt = 0;
  for (const NamedTensor& one : tensors)
    if (one.role == Role::parameter && !one.frozen) learnt += one.tensor.elements();
  std::set<std::string> names;
  for (const std::string& name : described.training.freeze)
    names.insert(name.substr(0, name.find_last_not_of('.') + 1));
  for (const std::string& name : names) {
    std::int64_t parameters = 0, statistics = 0;
    for (const NamedTensor& one : tensors) {
      if (one.name != name && one.name.rfind(name + '.', 0) != 0) continue;
      if (one.role == Role::parameter) parameters += one.tensor.elements();
      if (one.role == Role::statistic) ++statistics;
    }
    fmt::print("frozen: {} ({} parameters, {} tensors of batch statistics)\n", name, parameters, statistics);
  }
  fmt::print("trained: {} of {} parameters\n", learnt, described.model->parameter_count());
}

void print_layers(const Model& model, const Shape& sample) {
  const ModelDescription description = model.describe(sample);
  fmt::print("{}\n\n", description.tree);
  fmt::print("{:<28}{:<24}{:>12}  {}\n", "layer", "output", "parameters", "what");
  fmt::print("{:<28}{:<24}{:>12}  (channels, {}height, width)\n", "stimulus", to_string(sample), "",
             model.takes_movies() ? "time, " : "");
  for (const LayerDescription& layer : description.layers)
    fmt::print("{:<28}{:<24}{:>12}  {}\n", layer.name, to_string(layer.output), layer.parameters, layer.what);
  fmt::print("\nparameters: {}\n", model.parameter_count());
  if (!model.takes_movies())
    return fmt::print("receptive field: {} x {} pixels\n", description.receptive_field_height,
                      description.receptive_field_width);
  const std::int64_t lag = sample[1] - model.output_shape(sample, model.sessions()[0])[0];
  fmt::print("receptive field: {} frames x {} x {} pixels\n", description.receptive_field_frames,
             description.receptive_field_height, description.receptive_field_width);
  if (lag >= 0)
    fmt::print("lag: {} frames; the first prediction is for frame {}\n", lag, lag);
  else
    fmt::print("lag: {} frames; padding in time makes the prediction {} frames longer than the stimulus\n",
               lag, -lag);
}

Status describe(const Options& options) {
  const Placement placement{open_device(options.device), DType::f32};
  const Described described =
      is_config(options.what) ? read_configured(options, placement) : read_file(options, placement);
  const Model& model = *described.model;
  const Shape in = model.in_shape();
  print_layers(model, model.takes_movies() ? Shape{in[0], described.batches.chunk_frames, in[2], in[3]} : in);
  print_frozen(described);
  print_memory(described);
  return 0;
}

}  // namespace

void add_describe(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "describe", "Prints a model: modules, shapes after every layer, parameters, what is frozen, memory");
  command->add_option("MODEL", options->what, "model file, or run configuration (.yaml)")->required();
  command->add_option("OVERRIDES", options->overrides, "section.key=value .. (with a configuration)");
  add_device_options(*command, options->device);
  command->footer("Example: fovea describe model.safetensors");
  command->callback([=, &run] { run = [=] { return describe(*options); }; });
}

}  // namespace fovea::cli
