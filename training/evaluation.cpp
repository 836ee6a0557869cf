#include "fovea/evaluation.hpp"

#include <algorithm>
#include <cmath>

#include "data/sample_form.hpp"
#include "engine/step_memory.hpp"
#include "fovea/autograd.hpp"
#include "training/metrics.hpp"
#include "training/trainability.hpp"

namespace fovea {

namespace {

FrameTable to_table(const Tensor& output) {
  const Tensor wide = output.to(DType::f64);
  return {wide.shape()[-2], wide.shape()[-1], wide.to_vector<double>()};
}

/// Frames [begin, end) of a table.
FrameTable rows(const FrameTable& table, std::int64_t begin, std::int64_t end) {
  const auto at = [&](std::int64_t frame) {
    return table.values.begin() + static_cast<std::ptrdiff_t>(frame * table.neurons);
  };
  return {end - begin, table.neurons, {at(begin), at(end)}};
}

/// How an output frame hangs on the stimulus, from the model's description.
struct Reach {
  std::int64_t lag = 0;        // stimulus frames minus output frames
  std::int64_t margin = 0;     // frames at a cut whose outputs may differ from those of a whole pass
  std::int64_t per_frame = 1;  // values of the largest layer
  bool one_to_one = false;     // one more stimulus frame is one more output frame
};

Reach reach_of(const Model& model, const std::string& session, std::int64_t frames) {
  const Shape in = model.in_shape();
  const auto sample = [&](std::int64_t count) { return Shape{in[0], count, in[2], in[3]}; };
  const std::int64_t out = model.output_shape(sample(frames), session)[0];
  Reach reach;
  reach.lag = frames - out;
  // Of a longer clip, because a shorter one may be too short.
  reach.one_to_one = model.output_shape(sample(frames + 2), session)[0] - out == 2;
  const ModelDescription description = model.describe(sample(frames));
  std::int64_t most_frames = frames;
  for (const LayerDescription& layer : description.layers) {
    if (layer.output.rank() != 4) continue;
    most_frames = std::max(most_frames, layer.output[1]);
    reach.per_frame =
        std::max(reach.per_frame, layer.output.elements() / std::max<std::int64_t>(layer.output[1], 1));
  }
  // Zeros that layers pad with reach no further than the receptive field and the frames that padding adds.
  const std::int64_t field = description.receptive_field_frames - 1;
  reach.margin = std::max(field, field + (most_frames - out) - reach.lag);
  return reach;
}

/// Images of a batch, the same for all predictions of a session: few enough for little memory, and for a
/// single image that takes the place of all of them.
std::int64_t images_at_once(const Model& model, const std::string& session) {
  constexpr std::int64_t values = 1 << 20;  // of the largest layer
  std::int64_t per_image = std::max(model.in_shape().elements(), model.n_neurons(session));
  for (const LayerDescription& layer : model.describe(model.in_shape()).layers)
    per_image = std::max(per_image, layer.output.elements());
  return std::clamp<std::int64_t>(values / per_image, 1, 64);
}

/// Batches of always the same size: ops may choose their way by it, and so the last bits of their results.
class FullBatches {
 public:
  explicit FullBatches(std::int64_t size) : size_(size) {}
  std::int64_t size() const { return size_; }

  ModelInput filled(const ModelInput& input) {
    return {input.session, filled(stimulus_, input.stimulus), filled(pupil_, input.pupil_center), {}};
  }

 private:
  /// The rows, followed by earlier ones or zeros.
  Tensor filled(Tensor& full, const Tensor& rows) const {
    if (!rows || rows.shape()[0] == size_) return rows;
    std::vector<std::int64_t> extents = rows.shape().vector();
    extents[0] = size_;
    if (!full) full = Tensor::zeros(Shape(extents), rows.dtype(), rows.device());
    full.rows(0, rows.shape()[0]).copy_from(rows);
    return full;
  }

  std::int64_t size_;
  Tensor stimulus_, pupil_;
};

/// Every frames_per_image frames of a movie as an image.
FrameTable predict_frames(const Model& model, const std::string& session, std::int64_t frames,
                          const FrameReader& read, std::int64_t batch) {
  const SampleForm form = sample_form(model, read(0, std::min<std::int64_t>(frames, 1)).shape()[4]);
  if (frames < form.frames_per_image)
    throw ShapeError("evaluation", text("a movie of ", frames, " frames is too short: an image takes ",
                                        form.frames_per_image));
  return predict_images(
      model, session, form.samples(1, frames),
      [&](std::int64_t begin, std::int64_t end) {
        return ModelInput{session, samples_of(read(begin, end + form.lead()), form), {}, {}};
      },
      batch);
}

}  // namespace

FrameTable predict_images(const Model& model, const std::string& session, std::int64_t images,
                          const ImageReader& read, std::int64_t batch) {
  const NoGrad no_grad;
  FullBatches batches(images_at_once(model, session));
  batch = batch <= 0 ? batches.size() : std::min(batch, batches.size());
  StepMemory memory(model.placement().device);
  FrameTable all{images, model.n_neurons(session), {}};
  for (std::int64_t begin = 0; begin < images; begin += batch) {
    const std::int64_t count = std::min(batch, images - begin);
    const ModelInput input = batches.filled(read(begin, begin + count));
    const StepMemory::Scope scope(memory, text("predict ", input.stimulus.shape()));
    const FrameTable part = rows(to_table(model.forward(input, {})), 0, count);
    all.values.insert(all.values.end(), part.values.begin(), part.values.end());
  }
  return all;
}

FrameTable predict_movie(const Model& model, const std::string& session, std::int64_t frames,
                         const FrameReader& read, std::int64_t chunk_frames) {
  if (!model.takes_movies()) return predict_frames(model, session, frames, read, chunk_frames);
  const NoGrad no_grad;
  const Reach reach = reach_of(model, session, frames);
  if (chunk_frames <= 0) {
    constexpr std::int64_t values = 1 << 21;  // of the largest layer, in a chunk
    chunk_frames = std::max<std::int64_t>(64, values / reach.per_frame);
  }
  StepMemory memory(model.placement().device);
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    const Tensor stimulus = read(begin, end);
    const StepMemory::Scope scope(memory, text("predict ", stimulus.shape()));
    return to_table(model.forward({session, stimulus, {}, {}}, {}));
  };
  const std::int64_t outputs = frames - reach.lag;
  if (!reach.one_to_one || outputs <= chunk_frames) return run(0, frames);
  FrameTable all{outputs, model.n_neurons(session), {}};
  for (std::int64_t first = 0; first < outputs; first += chunk_frames) {
    const std::int64_t last = std::min(first + chunk_frames, outputs);
    const std::int64_t begin = std::max<std::int64_t>(0, first - reach.margin);
    const std::int64_t end = std::min(frames, last + reach.lag + reach.margin);
    const FrameTable part = rows(run(begin, end), first - begin, last - begin);
    all.values.insert(all.values.end(), part.values.begin(), part.values.end());
  }
  return all;
}

namespace {

/// The last `frames` frames of responses [N,T].
FrameTable last_frames(const TimeSeries& responses, std::int64_t frames, const Device& device) {
  return to_table(responses.read(responses.frames() - frames, responses.frames(), DType::f64, device));
}

/// Of a model whose constraints have been applied.
FrameTable predict_recorded(const Model& model, const std::string& session, const TimeSeries& stimulus,
                            const Normalization& normalization) {
  const Placement& placement = model.placement();
  return predict_movie(model, session, stimulus.frames(), [&](std::int64_t begin, std::int64_t end) {
    return stimulus.read(begin, end, placement.dtype, placement.device, normalization);
  });
}

TestFrames test_frames(const Model& model, const std::string& session, const TestMovie& movie,
                       const Normalization& normalization) {
  const Placement& placement = model.placement();
  TestFrames test;
  test.prediction = predict_recorded(model, session, movie.stimulus, normalization);
  const std::int64_t frames = test.prediction.frames;
  if (movie.responses.frames() < frames)
    throw ShapeError("evaluation",
                     text("test movie ", movie.name, " of session ", session, " has ",
                          movie.responses.frames(), " response frames for ", frames, " predictions"));
  test.mean = last_frames(movie.responses, frames, placement.device);
  if (movie.responses_by_trial.defined())
    for (std::int64_t trial = 0; trial < movie.responses_by_trial.extent(0); ++trial)
      test.trials.push_back(
          last_frames(TimeSeries({movie.responses_by_trial.at(trial)}), frames, placement.device));
  return test;
}

}  // namespace

FrameTable predict(const Model& model, const std::string& session, const TimeSeries& stimulus,
                   const Normalization& normalization) {
  const std::unique_ptr<Model> copy = model.clone();
  copy->apply_constraints(session);
  return predict_recorded(*copy, session, stimulus, normalization);
}

std::vector<SessionScores> evaluate_tests(const Model& model, const DataSet& data) {
  return evaluate_tests(model, data, data.checked_normalization());
}

std::vector<SessionScores> evaluate_tests(const Model& model, const DataSet& data,
                                          const Normalization& normalization) {
  const std::unique_ptr<Model> copy = model.clone();
  const std::vector<std::string> known = copy->sessions();
  std::vector<SessionScores> scores;
  for (const Session& session : data.sessions) {
    if (session.tests.empty()) continue;
    if (std::find(known.begin(), known.end(), session.key) == known.end()) continue;
    if (copy->n_neurons(session.key) != session.neurons)
      throw ShapeError("evaluation", text("session ", session.key, " has ", session.neurons,
                                          " neurons, the model has ", copy->n_neurons(session.key)));
    copy->apply_constraints(session.key);
    std::vector<TestFrames> movies;
    for (const TestMovie& movie : session.tests)
      movies.push_back(test_frames(*copy, session.key, movie, normalization));
    scores.push_back({session.key, score_neurons(movies)});
  }
  if (scores.empty()) throw Error("evaluation", "no session that the model knows has a test movie");
  return scores;
}

namespace {

/// Predictions for the trials of a tier, and the responses where somebody wants them: each is read once.
FrameTable predict_and_read(const Model& model, const StaticSession& session, Tier tier,
                            FrameTable* responses) {
  const std::vector<std::int64_t>& trials = session.trials(tier);
  return predict_images(
      model, session.key(), static_cast<std::int64_t>(trials.size()),
      [&](std::int64_t begin, std::int64_t end) {
        const StaticBatch batch =
            session.read({trials.begin() + begin, trials.begin() + end}, model.placement());
        if (responses) {
          const std::vector<double> rows = batch.responses.to(DType::f64).to_vector<double>();
          responses->values.insert(responses->values.end(), rows.begin(), rows.end());
        }
        return ModelInput{
            session.key(), batch.images, model.pupil_columns() > 0 ? batch.pupil_center : Tensor(), {}};
      });
}

}  // namespace

FrameTable predict_trials(const Model& model, const StaticSession& session, Tier tier) {
  return predict_and_read(model, session, tier, nullptr);
}

std::vector<SessionScores> evaluate_tests(const Model& model, const StaticDataSet& data, Tier tier) {
  const std::unique_ptr<Model> copy = model.clone();
  const std::vector<std::string> known = copy->sessions();
  std::vector<SessionScores> scores;
  for (const StaticSession& session : data.sessions) {
    const std::vector<std::int64_t>& trials = session.trials(tier);
    if (trials.empty() || std::find(known.begin(), known.end(), session.key()) == known.end()) continue;
    check_neurons(*copy, session.key(), session.n_neurons());
    copy->apply_constraints(session.key());
    std::vector<std::string> images;
    images.reserve(trials.size());
    for (const std::int64_t trial : trials) images.push_back(session.image_id(trial));
    FrameTable responses{static_cast<std::int64_t>(trials.size()), session.n_neurons(), {}};
    const FrameTable prediction = predict_and_read(*copy, session, tier, &responses);
    scores.push_back({session.key(), score_images(prediction, responses, images)});
  }
  if (scores.empty())
    throw Error("evaluation",
                text("no session that the model knows has trials of the tier ", to_string(tier)));
  return scores;
}

}  // namespace fovea
