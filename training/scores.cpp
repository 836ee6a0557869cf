// Scores of predictions (models.md section 6) and their table.
#include <algorithm>
#include <cmath>
#include <map>

#include "fovea/evaluation.hpp"
#include "training/csv.hpp"
#include "training/metrics.hpp"

namespace fovea {

namespace {

/// Moments of pairs, in two passes; undefined where one side is constant.
class Pearson {
 public:
  void add(double x, double y) {
    x_.push_back(x);
    y_.push_back(y);
  }

  std::optional<double> value() const {
    if (constant(x_) || constant(y_)) return std::nullopt;
    const double mx = mean(x_), my = mean(y_);
    double xx = 0, yy = 0, xy = 0;
    for (std::size_t i = 0; i < x_.size(); ++i) {
      const double dx = x_[i] - mx, dy = y_[i] - my;
      xx += dx * dx;
      yy += dy * dy;
      xy += dx * dy;
    }
    const double r = xy / std::sqrt(xx * yy);
    return std::isfinite(r) ? std::optional<double>(std::clamp(r, -1.0, 1.0)) : std::nullopt;
  }

  static double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }

 private:
  static bool constant(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [&](double value) { return value == values.front(); });
  }

  std::vector<double> x_, y_;
};

/// Unbiased variance; NaN for fewer than two values.
double variance(const std::vector<double>& values) {
  const double mean = Pearson::mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return squares / (static_cast<double>(values.size()) - 1);
}

/// Explainable variance and FEVE of one neuron, over frames or images with at least two trials.
class ExplainedVariance {
 public:
  /// The repeats of one frame or image, and what was predicted for each.
  void add(const std::vector<double>& responses, const std::vector<double>& predictions) {
    if (responses.size() < 2) return;
    noise_.push_back(variance(responses));
    for (std::size_t i = 0; i < responses.size(); ++i) {
      const double error = predictions[i] - responses[i];
      errors_.push_back(error * error);
      all_.push_back(responses[i]);
    }
  }

  void score(NeuronScore& score) const {
    constexpr double least_explainable = 0.15;
    if (all_.empty()) return;
    const double total = variance(all_), unexplainable = Pearson::mean(noise_);
    const double explainable = (total - unexplainable) / total;
    if (!std::isfinite(explainable)) return;
    score.explainable_variance = explainable;
    if (explainable < least_explainable) return;
    score.feve = 1 - (Pearson::mean(errors_) - unexplainable) / (total - unexplainable);
  }

 private:
  std::vector<double> all_, noise_, errors_;
};

void score_variance(const std::vector<TestFrames>& movies, std::int64_t neuron, NeuronScore& score) {
  ExplainedVariance explained;
  for (const TestFrames& movie : movies)
    for (std::int64_t frame = 0; frame < movie.prediction.frames; ++frame) {
      std::vector<double> repeats;
      for (const FrameTable& trial : movie.trials) repeats.push_back(trial.at(frame, neuron));
      explained.add(repeats, std::vector<double>(repeats.size(), movie.prediction.at(frame, neuron)));
    }
  explained.score(score);
}

}  // namespace

std::vector<NeuronScore> score_neurons(const std::vector<TestFrames>& movies) {
  if (movies.empty()) throw ShapeError("evaluation", "no test movie");
  const std::int64_t neurons = movies.front().prediction.neurons;
  for (const TestFrames& movie : movies) {
    const auto fits = [&](const FrameTable& table) {
      return table.frames == movie.prediction.frames && table.neurons == neurons;
    };
    if (movie.prediction.frames < 1 || !fits(movie.prediction) || !fits(movie.mean) ||
        !std::all_of(movie.trials.begin(), movie.trials.end(), fits))
      throw ShapeError("evaluation", "prediction, mean and trials need the same frames and neurons");
  }
  std::vector<NeuronScore> scores(static_cast<std::size_t>(neurons));
  for (std::int64_t neuron = 0; neuron < neurons; ++neuron) {
    NeuronScore& score = scores[static_cast<std::size_t>(neuron)];
    Pearson of_mean, of_trials;
    for (const TestFrames& movie : movies) {
      for (std::int64_t frame = 0; frame < movie.prediction.frames; ++frame) {
        const double prediction = movie.prediction.at(frame, neuron);
        of_mean.add(prediction, movie.mean.at(frame, neuron));
        if (movie.trials.empty()) of_trials.add(prediction, movie.mean.at(frame, neuron));
        for (const FrameTable& trial : movie.trials) of_trials.add(prediction, trial.at(frame, neuron));
      }
    }
    score.correlation = of_mean.value();
    score.single_trial_correlation = of_trials.value();
    score_variance(movies, neuron, score);
  }
  return scores;
}

std::vector<NeuronScore> score_images(const FrameTable& prediction, const FrameTable& responses,
                                      const std::vector<std::string>& image_ids) {
  if (prediction.frames < 1 || prediction.frames != responses.frames ||
      prediction.neurons != responses.neurons ||
      image_ids.size() != static_cast<std::size_t>(prediction.frames))
    throw ShapeError("evaluation", text("predictions, responses and image ids need the same trials: ",
                                        prediction.frames, ", ", responses.frames, ", ", image_ids.size()));
  std::map<std::string, std::vector<std::int64_t>> trials_of;
  for (std::int64_t trial = 0; trial < prediction.frames; ++trial)
    trials_of[image_ids[static_cast<std::size_t>(trial)]].push_back(trial);
  std::vector<NeuronScore> scores(static_cast<std::size_t>(prediction.neurons));
  for (std::int64_t neuron = 0; neuron < prediction.neurons; ++neuron) {
    NeuronScore& score = scores[static_cast<std::size_t>(neuron)];
    Pearson of_images, of_trials;
    ExplainedVariance explained;
    for (const auto& [image, trials] : trials_of) {
      std::vector<double> predicted, seen;
      for (const std::int64_t trial : trials) {
        predicted.push_back(prediction.at(trial, neuron));
        seen.push_back(responses.at(trial, neuron));
        of_trials.add(predicted.back(), seen.back());
      }
      of_images.add(Pearson::mean(predicted), Pearson::mean(seen));
      explained.add(seen, predicted);
    }
    score.correlation = of_images.value();
    score.single_trial_correlation = of_trials.value();
    explained.score(score);
  }
  return scores;
}

ScoreSummary summarize(const std::vector<SessionScores>& scores) {
  ScoreSummary summary;
  for (const SessionScores& session : scores) {
    for (const NeuronScore& neuron : session.neurons) {
      summary.mean_correlation += neuron.correlation.value_or(0.0);
      summary.mean_single_trial_correlation += neuron.single_trial_correlation.value_or(0.0);
      ++summary.neurons;
      if (!neuron.feve) continue;
      summary.mean_feve = summary.mean_feve.value_or(0.0) + *neuron.feve;
      ++summary.neurons_with_feve;
    }
  }
  if (summary.neurons) {
    summary.mean_correlation /= static_cast<double>(summary.neurons);
    summary.mean_single_trial_correlation /= static_cast<double>(summary.neurons);
  }
  if (summary.mean_feve) *summary.mean_feve /= static_cast<double>(summary.neurons_with_feve);
  return summary;
}

std::string csv_field(const std::string& value) {
  if (value.find_first_of(",\"\r\n") == std::string::npos) return value;
  std::string quoted = "\"";
  for (const char c : value) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string test_csv(const std::vector<SessionScores>& scores) {
  std::string out = "session,neuron,correlation,single_trial_correlation,feve\n";
  for (const SessionScores& session : scores) {
    for (std::size_t neuron = 0; neuron < session.neurons.size(); ++neuron) {
      const NeuronScore& score = session.neurons[neuron];
      out += csv_field(session.session) + ',' + std::to_string(neuron);
      for (const auto& value : {score.correlation, score.single_trial_correlation, score.feve})
        out += ',' + (value ? shortest(*value) : std::string());
      out += '\n';
    }
  }
  return out;
}

}  // namespace fovea
