// Prediction of movies and images, and the test metrics of models.md section 6.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fovea/data.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// Values (frames, neurons) in f64 on the host.
struct FrameTable {
  std::int64_t frames = 0, neurons = 0;
  std::vector<double> values;

  double at(std::int64_t frame, std::int64_t neuron) const {
    return values[static_cast<std::size_t>(frame * neurons + neuron)];
  }
};

/// Reads frames [begin, end) of a movie as (1,T,H,W,C) in the model's placement.
using FrameReader = std::function<Tensor(std::int64_t begin, std::int64_t end)>;

/// Prediction for a movie of any length, in overlapping chunks that give what one whole pass gives. Does not
/// apply constraints. `chunk_frames` new frames at a time, 0: as many as keep memory small. A model of images
/// sees every in_shape channels / channels of the movie frames in a row as one: the first prediction is for
/// the last frame of the first image.
FrameTable predict_movie(const Model& model, const std::string& session, std::int64_t frames,
                         const FrameReader& read, std::int64_t chunk_frames = 0);

/// Reads images [begin, end) as the input of a forward pass, with their pupil centres where the model needs
/// them.
using ImageReader = std::function<ModelInput(std::int64_t begin, std::int64_t end)>;

/// Prediction for any number of images, one row of the table each, the same bits however they are divided
/// into calls and batches. Does not apply constraints. At most `batch` images are read at a time, 0: as many
/// as keep memory small.
FrameTable predict_images(const Model& model, const std::string& session, std::int64_t images,
                          const ImageReader& read, std::int64_t batch = 0);

/// Prediction for a movie in memory or file, whole, by a private copy of the model with its constraints
/// applied once.
FrameTable predict(const Model& model, const std::string& session, const TimeSeries& stimulus,
                   const Normalization& normalization);

/// One test movie: prediction, mean response and single trials, all over the same output frames.
struct TestFrames {
  FrameTable prediction;
  FrameTable mean;
  std::vector<FrameTable> trials;  ///< empty: the mean is the only trial
};

struct NeuronScore {
  std::optional<double> correlation;               ///< with the mean response
  std::optional<double> single_trial_correlation;  ///< over all trials pooled
  std::optional<double> feve;                      ///< fraction of explainable variance explained
  std::optional<double> explainable_variance;      ///< (total - noise) / total
};

struct SessionScores {
  std::string session;
  std::vector<NeuronScore> neurons;
};

/// Scores per neuron over all movies of a session concatenated (models.md section 6); empty where undefined.
std::vector<NeuronScore> score_neurons(const std::vector<TestFrames>& movies);

/// Scores of a model on the test movies of every session of the data that has some and that the model knows.
/// Works on a private copy with the constraints applied once. Error when no session has a test movie.
std::vector<SessionScores> evaluate_tests(const Model& model, const DataSet& data,
                                          const Normalization& normalization);
/// The same with the normalisation of the data, which needs its training movie.
std::vector<SessionScores> evaluate_tests(const Model& model, const DataSet& data);

/// Predictions for the trials of a tier of static images, in its order, by a model whose constraints have
/// been applied.
FrameTable predict_trials(const Model& model, const StaticSession& session, Tier tier);

/// Scores per neuron of predictions for trials, (trials, N) both: `correlation` over distinct images, after
/// averaging predictions and responses over the trials of each, the others over trials.
std::vector<NeuronScore> score_images(const FrameTable& prediction, const FrameTable& responses,
                                      const std::vector<std::string>& image_ids);

/// Scores of a model on a tier of every session that has some of it and that the model knows, as above.
std::vector<SessionScores> evaluate_tests(const Model& model, const StaticDataSet& data,
                                          Tier tier = Tier::test);

struct ScoreSummary {
  double mean_correlation = 0;               ///< over all neurons of all sessions, undefined ones as 0
  double mean_single_trial_correlation = 0;  ///< likewise
  std::optional<double> mean_feve;           ///< over the neurons that have one
  std::int64_t neurons = 0, neurons_with_feve = 0;
};
ScoreSummary summarize(const std::vector<SessionScores>& scores);

/// session,neuron,correlation,single_trial_correlation,feve: one line a neuron, empty where undefined.
std::string test_csv(const std::vector<SessionScores>& scores);

}  // namespace fovea
