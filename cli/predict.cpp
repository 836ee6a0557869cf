#include <fmt/core.h>

#include "cli/common.hpp"
#include "cli/inputs.hpp"
#include "engine/atomic_file.hpp"
#include "fovea/evaluation.hpp"
#include "fovea/npy.hpp"
#include "fovea/time_series.hpp"
#include "training/csv.hpp"
#include "training/trainability.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string model, stimulus, out, session, pupil;
  std::string config, tier = "test", submission;
  std::vector<std::string> overrides;
  bool raw = false;
  DeviceChoice device;
};

/// What a prediction needs beside the stimulus.
struct Prepared {
  const Model& model;
  std::string session;
  Normalization normalization;
  std::string pupil;  // path
};

/// Clips of a stimulus file: [C,T,H,W] is one, [B,C,T,H,W] are B.
std::vector<StoredArray> clips_of(const StoredArray& stimulus) {
  if (stimulus.rank() == 4) return {stimulus};
  std::vector<StoredArray> clips;
  for (std::int64_t b = 0; b < stimulus.extent(0); ++b) clips.push_back(stimulus.at(b));
  return clips;
}

/// Values without the axis that a single sample has not.
struct Prediction {
  std::vector<float> values;
  std::vector<std::int64_t> shape;

  void add(const FrameTable& table) {
    for (const double value : table.values) values.push_back(static_cast<float>(value));
  }
};

Prediction predict_clips(const Prepared& with, const StoredArray& stimulus) {
  const Placement& placement = with.model.placement();
  (void)open_pupil(with.model, with.pupil, 1);  // no model of movies has a shifter
  const std::vector<StoredArray> clips = clips_of(stimulus);
  Prediction result;
  std::int64_t frames = 0;
  for (const StoredArray& clip : clips) {
    const TimeSeries movie({clip});
    const auto bad = clip.first_not_finite();
    if (bad >= 0)
      throw FormatError(stimulus.origin(), text("value ", index_text(bad, clip.shape()), " is not finite"));
    const auto read = [&](std::int64_t begin, std::int64_t end) {
      return movie.read(begin, end, placement.dtype, placement.device, with.normalization);
    };
    const FrameTable table = predict_movie(with.model, with.session, movie.frames(), read);
    frames = table.frames;
    result.add(table);
  }
  result.shape = {frames, with.model.n_neurons(with.session)};
  if (stimulus.rank() == 5) result.shape.insert(result.shape.begin(), stimulus.extent(0));
  return result;
}

/// Images and their pupil centres are read in step, some at a time.
Prediction predict_stills(const Prepared& with, const StoredArray& stimulus) {
  const StoredArray images = stimulus.rank() == 3 ? stimulus.as_batch() : stimulus;
  const StoredArray pupil = open_pupil(with.model, with.pupil, images.extent(0));
  const Placement& placement = with.model.placement();
  const auto read = [&](std::int64_t begin, std::int64_t end) {
    ModelInput input{with.session, read_entries(images, begin, end, placement, with.normalization), {}, {}};
    if (pupil.defined()) input.pupil_center = read_entries(pupil, begin, end, placement);
    return input;
  };
  Prediction result;
  result.add(predict_images(with.model, with.session, images.extent(0), read));
  result.shape = {with.model.n_neurons(with.session)};
  if (stimulus.rank() == 4) result.shape.insert(result.shape.begin(), stimulus.extent(0));
  return result;
}

/// A list of JSON values as a field of a table.
std::string list_field(const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values) list += (list.empty() ? "" : ", ") + value;
  return csv_field('[' + list + ']');
}

/// A number as it is, anything else as text.
std::string json_word(const std::string& word) {
  return Json::parse(word, nullptr, false).is_number() ? word : Json(word).dump();
}

/// The rows of one session, in the order of its trials.
std::string submission_rows(const Model& model, const StaticSession& session, Tier tier) {
  model.apply_constraints(session.key());
  const FrameTable prediction = predict_trials(model, session, tier);
  std::vector<std::string> neurons;
  for (std::int64_t n = 0; n < session.n_neurons(); ++n)
    neurons.push_back(session.unit_ids().empty()
                          ? std::to_string(session.neuron_index()[static_cast<std::size_t>(n)])
                          : json_word(session.unit_ids()[static_cast<std::size_t>(n)]));
  const std::string neuron_ids = list_field(neurons);
  std::string rows;
  for (std::int64_t row = 0; row < prediction.frames; ++row) {
    const std::int64_t trial = session.trials(tier)[static_cast<std::size_t>(row)];
    std::vector<std::string> values;
    for (std::int64_t n = 0; n < prediction.neurons; ++n)
      values.push_back(fmt::format("{}", static_cast<float>(prediction.at(row, n))));
    rows += csv_field(session.trial_idx(trial)) + ',' + csv_field(session.image_id(trial)) + ',' +
            list_field(values) + ',' + neuron_ids + '\n';
  }
  return rows;
}

Status write_submission(const Options& options) {
  const Tier tier = parse_tier(options.tier);
  const RunConfig config = read_run_config(options.config, options.overrides);
  if (!config.static_data)
    throw ConfigError("--submission",
                      text("needs data of the format ", static_format, ": ", config.data.format));
  const LoadedModel loaded = load_model(options.model, {open_device(config, options.device), DType::f32});
  const Model& model = *loaded.model;
  const LoadedData data(config);
  data.training().check_fits(model);
  std::string table = "trial_indices,image_ids,prediction,neuron_ids\n";
  bool any = false;
  for (const StaticSession& session : data.images()->sessions) {
    if (!options.session.empty() && options.session != session.key()) continue;
    (void)chosen_session(model, session.key());
    if (session.trials(tier).empty()) continue;
    check_neurons(model, session.key(), session.n_neurons());
    table += submission_rows(model, session, tier);
    any = true;
  }
  if (!any)
    throw ConfigError("--tier", text("no session has trials of the tier ", options.tier,
                                     options.session.empty() ? "" : " and the key " + options.session));
  write_file_atomically(options.submission, table);
  return 0;
}

Status predict(const Options& options) {
  const Device device = open_device(options.device);
  const LoadedModel loaded = load_model(options.model, {device, DType::f32});
  const Model& model = *loaded.model;
  const std::string session = chosen_session(model, options.session);
  const Prepared with{model, session, options.raw ? Normalization{} : model_normalization(loaded, session),
                      options.pupil};
  const StoredArray stimulus = open_npy(options.stimulus);
  check_stimulus(model, session, stimulus);
  model.apply_constraints(session);  // the loaded model is this command's own
  const Prediction result =
      model.takes_movies() ? predict_clips(with, stimulus) : predict_stills(with, stimulus);
  write_npy(options.out, Tensor::from(result.values, Shape(result.shape), device));
  return 0;
}

}  // namespace

void add_predict(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("predict", "Predicts the responses to a stimulus");
  command->add_option("MODEL", options->model, "model file")->required();
  command->add_option("--stimulus", options->stimulus,
                      ".npy [C,T,H,W] or [B,C,T,H,W]; images [C,H,W] or [B,C,H,W]");
  command->add_option("--out", options->out,
                      ".npy to write: [T_out,N] or [B,T_out,N], of images [N] or [B,N], float32");
  command->add_option("--session", options->session, "session; needed when the model has several");
  command->add_option("--pupil", options->pupil,
                      ".npy [B,2] pupil centres, [B,3] with a trial index, for models with a shifter");
  command->add_flag("--raw", options->raw, "the stimulus is already normalised");
  command->add_option("--data", options->config,
                      "run configuration whose images are predicted (--submission)");
  command->add_option("OVERRIDES", options->overrides, "section.key=value .. (with --data)");
  command->add_option("--tier", options->tier, "train, validation, test or final_test (with --data)")
      ->capture_default_str();
  command->add_option("--submission", options->submission,
                      "table to write for --data: trial_indices, image_ids, prediction, neuron_ids");
  add_device_options(*command, options->device);
  command->footer("Example: fovea predict model.safetensors --stimulus movie.npy --out rates.npy");
  command->callback([=, &run] {
    const bool table = !options->submission.empty() || !options->config.empty();
    const bool file = !options->stimulus.empty() || !options->out.empty();
    if (table && file) throw CLI::ExcludesError("--data", "--stimulus and --out");
    if (!table && options->stimulus.empty()) throw CLI::RequiredError("--stimulus (or --data)");
    if (!table && options->out.empty()) throw CLI::RequiredError("--out");
    if (table && options->config.empty()) throw CLI::RequiredError("--data");
    if (table && options->submission.empty()) throw CLI::RequiredError("--submission");
    run = [=] { return table ? write_submission(*options) : predict(*options); };
  });
}

}  // namespace fovea::cli
