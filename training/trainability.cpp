#include "training/trainability.hpp"

#include "models/json.hpp"

namespace fovea {
namespace {

/// Responses are as long as their stimulus, and predictions are compared with the last of them.
std::string why_not_compared(const Model& model, const std::string& what, std::int64_t frames) {
  const Shape in = model.in_shape();
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

std::string why_untrainable(const Model& model, const DataOptions& options) {
  if (Json::parse(model.config())["loss"].value("per_neuron", false))
    return "training minimises one number, so loss.per_neuron must be false: true";
  if (!model.takes_movies()) return {};
  const std::string chunk = why_not_compared(model, "train_chunk_size", options.train_chunk_size);
  return chunk.empty() ? why_not_compared(model, "clip_length", options.clip_length) : chunk;
}

void check_trainable(const Model& model, const DataSet& data, const DataOptions& options) {
  const auto check = [](const std::string& why) {
    if (!why.empty()) throw ConfigError("train", why);
  };
  check(why_untrainable(model, options));
  if (!model.takes_movies()) return;
  for (const Session& session : data.sessions)
    for (const TestMovie& test : session.tests)
      check(why_not_compared(model, "test movie " + test.name, test.stimulus.frames()));
}

}  // namespace fovea
