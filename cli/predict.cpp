#include "cli/common.hpp"
#include "cli/inputs.hpp"
#include "fovea/evaluation.hpp"
#include "fovea/npy.hpp"
#include "fovea/time_series.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string model, stimulus, out, session, pupil;
  bool raw = false;
  DeviceChoice device;
};

/// Clips of a stimulus file: [C,T,H,W] is one, [B,C,T,H,W] are B.
std::vector<StoredArray> clips_of(const StoredArray& stimulus) {
  if (stimulus.rank() == 4) return {stimulus};
  std::vector<StoredArray> clips;
  for (std::int64_t b = 0; b < stimulus.extent(0); ++b) clips.push_back(stimulus.at(b));
  return clips;
}

Status predict(const Options& options) {
  const Device device = open_device(options.device);
  const LoadedModel loaded = load_model(options.model, {device, DType::f32});
  const Model& model = *loaded.model;
  const std::string session = chosen_session(model, options.session);
  if (!options.pupil.empty()) throw ConfigError("--pupil", text(model.class_name(), " has no shifter"));
  const Normalization normalization = options.raw ? Normalization{} : model_normalization(loaded);
  const StoredArray stimulus = open_npy(options.stimulus);
  check_stimulus(model, session, stimulus);
  const std::vector<StoredArray> clips = clips_of(stimulus);
  model.apply_constraints(session);  // the loaded model is this command's own
  std::vector<float> values;
  std::int64_t frames = 0;
  for (const StoredArray& clip : clips) {
    const TimeSeries movie({clip});
    const auto bad = clip.first_not_finite();
    if (bad >= 0)
      throw FormatError(options.stimulus, text("value ", index_text(bad, clip.shape()), " is not finite"));
    const auto read = [&](std::int64_t begin, std::int64_t end) {
      return movie.read(begin, end, DType::f32, device, normalization);
    };
    const FrameTable table = predict_movie(model, session, movie.frames(), read);
    frames = table.frames;
    for (const double value : table.values) values.push_back(static_cast<float>(value));
  }
  const std::int64_t neurons = model.n_neurons(session);
  const Shape shape = stimulus.rank() == 4 ? Shape{frames, neurons}
                                           : Shape{static_cast<std::int64_t>(clips.size()), frames, neurons};
  write_npy(options.out, Tensor::from(values, shape, device));
  return 0;
}

}  // namespace

void add_predict(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("predict", "Predicts the responses to a stimulus");
  command->add_option("MODEL", options->model, "model file")->required();
  command->add_option("--stimulus", options->stimulus, ".npy [C,T,H,W] or [B,C,T,H,W]")->required();
  command->add_option("--out", options->out, ".npy to write: [T_out,N] or [B,T_out,N], float32")->required();
  command->add_option("--session", options->session, "session; needed when the model has several");
  command->add_option("--pupil", options->pupil, ".npy [B,2] pupil centres, for models with a shifter");
  command->add_flag("--raw", options->raw, "the stimulus is already normalised");
  add_device_options(*command, options->device);
  command->footer("Example: fovea predict model.safetensors --stimulus movie.npy --out rates.npy");
  command->callback([=, &run] { run = [=] { return predict(*options); }; });
}

}  // namespace fovea::cli
