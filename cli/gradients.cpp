#include "fovea/gradients.hpp"

#include "cli/common.hpp"
#include "cli/inputs.hpp"
#include "fovea/npy.hpp"
#include "fovea/safetensors.hpp"
#include "models/parameters.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string model, stimulus, responses, out, session, pupil, noise, dtype = "f32", dropout = "on";
  bool train = false, raw = false;
  std::uint64_t seed = 0;
  DeviceChoice device;
};

/// A batch of this many axes; one clip is a batch of one.
Tensor with_batch(const Tensor& tensor, int rank) {
  if (tensor.shape().rank() == rank) return tensor;
  std::vector<std::int64_t> extents = tensor.shape().vector();
  extents.insert(extents.begin(), 1);
  return tensor.reshape(Shape(extents));
}

Status run_gradients(const Options& o) {
  check_name("command line", "--dtype", o.dtype, {"f32", "f64"});
  check_name("command line", "--dropout", o.dropout, {"on", "off"});
  const Placement placement{open_device(o.device), o.dtype == "f64" ? DType::f64 : DType::f32};
  const LoadedModel loaded = load_model(o.model, placement);
  const Model& model = *loaded.model;
  GradientsInput input;
  input.session = chosen_session(model, o.session);
  const Normalization normalization = o.raw ? Normalization{} : model_normalization(loaded, input.session);
  const StoredArray stimulus = open_npy(o.stimulus), responses = open_npy(o.responses);
  const Shape prediction = check_stimulus(model, input.session, stimulus);
  const bool batch = stimulus.rank() > model.in_shape().rank();
  const std::int64_t samples = batch ? stimulus.extent(0) : 1;
  check_responses(responses, samples, prediction);
  const StoredArray pupil = open_pupil(model, o.pupil, samples);
  const StoredArray noise = open_noise(model, input.session, o.noise, samples, o.train);
  input.stimulus = with_batch(read_values(stimulus, placement, normalization), model.in_shape().rank() + 1);
  input.responses = with_batch(read_values(responses, placement), prediction.rank() + 1);
  if (pupil.defined()) input.pupil_center = read_values(pupil, placement);
  if (noise.defined()) input.noise = read_values(noise, placement);
  Random random(o.seed, 2);
  const Gradients result = gradients(model, input, {o.train, &random, o.dropout == "on"});
  Safetensors file;
  const auto add = [&](const std::string& name, const Tensor& tensor) {
    if (tensor) file.tensors.emplace_back(name, tensor);
  };
  add("output", result.output);
  add("loss", result.loss);
  add("core_regularizer", result.core_regularizer);
  add("readout_regularizer", result.readout_regularizer);
  add("total", result.total);
  for (const auto& [name, tensor] : result.parameters) add("grad." + name, tensor);
  add("grad.stimulus", result.stimulus);
  add("grad.pupil", result.pupil_center);
  for (const auto& [name, tensor] : result.statistics) add("buffer." + name, tensor);
  file.metadata = {
      {"format", "fovea.gradients"}, {"session", input.session}, {"mode", o.train ? "train" : "eval"}};
  write_safetensors(o.out, file);
  return 0;
}

}  // namespace

void add_gradients(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("gradients", "Writes output, loss and every gradient for one batch");
  command->add_option("MODEL", options->model, "model file")->required();
  command
      ->add_option("--stimulus", options->stimulus,
                   ".npy [C,T,H,W] or [B,C,T,H,W]; images [C,H,W] or [B,C,H,W]")
      ->required();
  command->add_option("--responses", options->responses, ".npy [T,N] or [B,T,N]; of images [N] or [B,N]")
      ->required();
  command->add_option("--out", options->out, ".safetensors to write")->required();
  command->add_option("--session", options->session, "session; needed when the model has several");
  command->add_option("--pupil", options->pupil,
                      ".npy [B,2] pupil centres, [B,3] with a trial index, for models with a shifter");
  command->add_flag("--train", options->train,
                    "training mode: batch statistics, dropout; also writes the statistics");
  command->add_option("--noise", options->noise,
                      ".npy [B,N,2] or [1,N,2], draws of a sampling readout with --train");
  command->add_option("--dtype", options->dtype, "f32 | f64")->capture_default_str();
  command->add_flag("--raw", options->raw, "the stimulus is already normalised");
  add_seed_option(*command, options->seed, "of dropout and of readouts that sample, with --train");
  command->add_option("--dropout", options->dropout, "on | off")->capture_default_str();
  add_device_options(*command, options->device);
  command->footer(
      "Example: fovea gradients model.safetensors --stimulus x.npy --responses r.npy --out g.safetensors "
      "--dtype f64");
  command->callback([=, &run] { run = [=] { return run_gradients(*options); }; });
}

}  // namespace fovea::cli
