// Validation during training and the test metrics of models.md section 6.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/sampler.hpp"
#include "engine/step_memory.hpp"
#include "fovea/model.hpp"

namespace fovea {

struct ValidationScores {
  double loss =
      0;  ///< val_loss: loss / (B + T_out + N), averaged over batches weighted by B, as openretina logs it
  double metric = 0;  ///< val_evaluation_loss: the model's metric, averaged in the same way
};

/// One pass through the validation clips; constraints act in place, as in training. It cannot be stopped on
/// the way: what a constraint has changed must not be changed again by a second pass.
ValidationScores validate(const Model& model, ValidationClips& clips, StepMemory& memory);

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
/// apply constraints. `chunk_frames` new frames at a time, 0: as many as keep memory small.
FrameTable predict_movie(const Model& model, const std::string& session, std::int64_t frames,
                         const FrameReader& read, std::int64_t chunk_frames = 0);

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

struct ScoreSummary {
  double mean_correlation = 0;  ///< over all neurons of all sessions, undefined ones as 0
  std::int64_t neurons = 0;
};
ScoreSummary summarize(const std::vector<SessionScores>& scores);

/// session,neuron,correlation,single_trial_correlation,feve: one line a neuron, empty where undefined.
std::string test_csv(const std::vector<SessionScores>& scores);

}  // namespace fovea
