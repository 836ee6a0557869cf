#include <fmt/core.h>

#include "cli/common.hpp"
#include "training/memory_estimate.hpp"

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

std::unique_ptr<Model> fitting_model(const RunConfig& config, const Placement& placement) {
  const DataSet data = load_openretina(config.data);
  auto model =
      make_model(with_sessions(config, data).dump(), placement, static_cast<std::uint64_t>(config.seed));
  check_fits(*model, data);
  return model;
}

/// The model of a configuration; its sessions come from the data, or from n_neurons_dict where there is no
/// data yet.
std::unique_ptr<Model> model_of(const RunConfig& config, const Placement& placement) {
  const Json& section = config.model;
  if (section.is_null()) throw ConfigError("config", "the section 'model' is missing");
  if (!section.contains("n_neurons_dict") && !section.contains("sessions"))
    return fitting_model(config, placement);
  return make_model(section.dump(), placement, static_cast<std::uint64_t>(config.seed));
}

std::string megabytes(std::size_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

Status describe(const Options& options) {
  const Device device = open_device(options.device);
  std::unique_ptr<Model> model;
  std::int64_t batch = 1, frames = 0;
  TrainingOptions training;
  if (is_config(options.what)) {
    const RunConfig config = read_run_config(options.what, options.overrides);
    model = model_of(config, {device, DType::f32});
    batch = config.data.batch_size;
    frames = config.data.train_chunk_size;
    training = config.training;
  } else {
    if (!options.overrides.empty())
      throw ConfigError("describe", "overrides need a configuration, not a model file");
    model = load_model(options.what, {device, DType::f32}).model;
    frames = model->in_shape()[1];
  }
  const Shape in = model->in_shape();
  const Shape sample{in[0], frames, in[2], in[3]};
  const ModelDescription description = model->describe(sample);
  fmt::print("{}\n\n", description.tree);
  fmt::print("{:<28}{:<24}{:>12}  {}\n", "layer", "output", "parameters", "what");
  fmt::print("{:<28}{:<24}{:>12}  (channels, time, height, width)\n", "stimulus", to_string(sample), "");
  for (const LayerDescription& layer : description.layers)
    fmt::print("{:<28}{:<24}{:>12}  {}\n", layer.name, to_string(layer.output), layer.parameters, layer.what);
  fmt::print("\nparameters: {}\n", model->parameter_count());
  fmt::print("receptive field: {} frames x {} x {} pixels; the first prediction is for frame {}\n",
             description.receptive_field_frames, description.receptive_field_height,
             description.receptive_field_width,
             frames - model->output_shape(sample, model->sessions()[0])[0]);
  const auto bytes = estimate_step_memory(*model, training, batch, frames);
  fmt::print("training step, batch {} x {} frames: {}\n", batch, frames,
             bytes ? megabytes(*bytes) : "not measured, a sample takes over half a gigabyte");
  return 0;
}

}  // namespace

void add_describe(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("describe", "Prints a model: modules, shapes after every layer, parameters, memory");
  command->add_option("MODEL", options->what, "model file, or run configuration (.yaml)")->required();
  command->add_option("OVERRIDES", options->overrides, "section.key=value .. (with a configuration)");
  add_device_options(*command, options->device);
  command->footer("Example: fovea describe model.safetensors");
  command->callback([=, &run] { run = [=] { return describe(*options); }; });
}

}  // namespace fovea::cli
