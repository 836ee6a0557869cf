#include "training/trainability.hpp"

#include "data/sample_form.hpp"
#include "models/json.hpp"
#include "models/parameters.hpp"

namespace fovea {
namespace {

/// Responses are as long as their stimulus, and predictions are compared with the last of them.
std::string why_not_compared(const Model& model, const SampleForm& form, const std::string& what,
                             std::int64_t frames) {
  const Shape in = model.in_shape();
  if (form.images) {
    if (frames >= form.frames_per_image) return {};
    return text(what, " of ", frames, " frames is too short: an image takes frames_per_image ",
                form.frames_per_image);
  }
  try {
    const std::int64_t out = model.output_shape({in[0], frames, in[2], in[3]}, model.sessions().front())[0];
    if (out <= frames) return {};
    return text(
        "padding in time makes predictions longer than responses, which are as long as the stimulus: ", out,
        " frames for ", what, " of ", frames);
  } catch (const ShapeError& error) {
    return text(what, " of ", frames, " frames is too short: ", error.what());
  }
}

}  // namespace

void check_fits(const Model& model, const DataSet& data, const DataOptions& options) {
  const SampleForm form = sample_form(model, options);
  const Shape sample = model.in_shape();
  const std::int64_t channels = data.channels * form.frames_per_image;
  if (sample[0] != channels || sample[-2] != data.height || sample[-1] != data.width) {
    if (!form.images)
      throw ConfigError("model", text("in_shape must fit the stimulus of ", data.channels, " channels, ",
                                      data.height, " x ", data.width, " pixels: ", sample));
    throw ConfigError("model", text("images must have the ", data.channels, " x ", form.frames_per_image,
                                    " = ", channels, " channels (of the stimulus x frames_per_image) and ",
                                    data.height, " x ", data.width, " pixels of the data: ", sample));
  }
  if (model.pupil_columns() > 0)
    throw ConfigError("data", text("the shifter of ", model.class_name(),
                                   " needs a pupil centre, which the format has none of: ", options.format));
}

void check_fits(const Model& model, const StaticDataSet& data) {
  if (model.takes_movies())
    throw ConfigError(
        "model",
        text(model.class_name(), " takes movies, the data are static images: in_shape ", model.in_shape()));
  const Shape images = data.sessions.at(0).image_shape();
  if (model.in_shape() != images)
    throw ConfigError(
        "model", text("in_shape must be that of the images of the data, ", images, ": ", model.in_shape()));
  const std::int64_t columns = model.pupil_columns();
  if (columns == 0) return;
  if (!data.options.include_eye_position)
    throw ConfigError("data", text("include_eye_position: the shifter of ", model.class_name(),
                                   " needs a pupil centre: false"));
  if (columns != 2)
    throw ConfigError("model", text("shifter.input_channels must be the two of a pupil centre: ", columns));
}

void check_neurons(const Model& model, const std::string& session, std::int64_t neurons) {
  if (model.n_neurons(session) != neurons)
    throw ShapeError("train", text("session ", session, " has ", neurons, " neurons, the model has ",
                                   model.n_neurons(session)));
}

Model& freeze(Model& model, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (prefix.empty() || !model.freeze(prefix)) {
      std::vector<std::string> known{"core"};
      for (const std::string& session : model.sessions()) {
        known.push_back("readout." + session);
        if (model.pupil_columns() > 0) known.push_back("shifter." + session);
      }
      throw ConfigError("training", text("freeze names no tensors: '", prefix, "', did you mean '",
                                         nearest_name(prefix, known), "'?"));
    }
  }
  return model;
}

std::string why_untrainable(const Model& model) {
  if (!Json::parse(model.config())["loss"].value("per_neuron", false)) return {};
  return "training minimises one number, so loss.per_neuron must be false: true";
}

std::string why_untrainable(const Model& model, const DataOptions& options) {
  if (std::string why = why_untrainable(model); !why.empty()) return why;
  const SampleForm form = sample_form(model, options);
  const std::string chunk = why_not_compared(model, form, "train_chunk_size", options.train_chunk_size);
  return chunk.empty() ? why_not_compared(model, form, "clip_length", options.clip_length) : chunk;
}

void check_trainable(const Model& model, const DataSet& data, const DataOptions& options) {
  const auto check = [](const std::string& why) {
    if (!why.empty()) throw ConfigError("train", why);
  };
  check_fits(model, data, options);
  check(why_untrainable(model, options));
  const SampleForm form = sample_form(model, options);
  for (const Session& session : data.sessions)
    for (const TestMovie& test : session.tests)
      check(why_not_compared(model, form, "test movie " + test.name, test.stimulus.frames()));
}

}  // namespace fovea
