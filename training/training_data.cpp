#include "training/training_data.hpp"

#include "fovea/receptive_fields.hpp"

#include "data/sampler.hpp"
#include "training/run_config.hpp"
#include "training/trainability.hpp"

namespace fovea {
namespace {

class MovieTrainingData final : public TrainingData {
 public:
  MovieTrainingData(const DataSet& data, const DataOptions& options) : data_(data), options_(options) {}

  std::vector<SessionOptions> session_options(bool source_grid) const override {
    if (source_grid)
      throw ConfigError("data",
                        text("a source grid for grid_mean_predictor is not in the format ", options_.format));
    return data_.session_options();
  }
  std::string content_hash() const override { return data_.content_hash; }

  void check_fits(const Model& model) const override { fovea::check_fits(model, data_, options_); }
  void check_trainable(const Model& model) const override {
    (void)sample_form(model, options_);  // says where frames_per_image is not for this model
    check_samples(data_, options_);
    for (const Session& session : data_.sessions) check_neurons(model, session.key, session.neurons);
    fovea::check_trainable(model, data_, options_);
  }
  BatchShapes batch_shapes(const Model& model) const override { return fovea::batch_shapes(model, options_); }

  std::unique_ptr<TrainingBatches> training_batches(const Model& model, std::uint64_t seed) const override {
    return std::make_unique<TrainingSampler>(data_, options_, seed, model.placement().dtype,
                                             model.placement().device, sample_form(model, options_));
  }
  std::unique_ptr<Validation> validation(const Model& model) const override {
    return std::make_unique<ClipValidation>(ValidationClips(
        data_, options_, model.placement().dtype, model.placement().device, sample_form(model, options_)));
  }

  std::int64_t start_at_receptive_fields(Model&, const std::vector<std::string>&) const override {
    throw ConfigError("model", text("init_positions: responses needs static images: ", options_.format));
  }

  bool has_tests() const override {
    for (const Session& session : data_.sessions)
      if (!session.tests.empty()) return true;
    return false;
  }
  std::vector<SessionScores> evaluate(const Model& model) const override {
    return evaluate_tests(model, data_);
  }

  Json provenance() const override {
    Json split = Json::object();
    for (const Session& session : data_.sessions)
      split[session.key] = {{"validation_clips", split_clips(session, options_).validation},
                            {"clip_length", options_.clip_length}};
    const Normalization& normalization = data_.checked_normalization();
    return {{"data", write_data_options(options_)},
            {"data_hash", data_.content_hash},
            {"split", split},
            {"normalization", {{"mean", normalization.mean}, {"std", normalization.deviation}}}};
  }

 private:
  const DataSet& data_;
  DataOptions options_;
};

class StaticTrainingData final : public TrainingData {
 public:
  explicit StaticTrainingData(const StaticDataSet& data) : data_(data) {}

  std::vector<SessionOptions> session_options(bool source_grid) const override {
    return data_.session_options(source_grid);
  }
  std::string content_hash() const override { return data_.content_hash(); }
  std::vector<std::string> warnings() const override {
    std::vector<std::string> all;
    for (const StaticSession& session : data_.sessions)
      all.insert(all.end(), session.warnings().begin(), session.warnings().end());
    return all;
  }

  void check_fits(const Model& model) const override { fovea::check_fits(model, data_); }
  void check_trainable(const Model& model) const override {
    fovea::check_fits(model, data_);
    for (const StaticSession& session : data_.sessions) {
      check_neurons(model, session.key(), session.n_neurons());
      for (const Tier tier : {Tier::train, Tier::validation})
        if (session.trials(tier).empty())
          throw ConfigError("data", text("session ", session.key(), " has no trial of the tier ",
                                         to_string(tier), ": ", session.path()));
    }
    if (const std::string why = why_untrainable(model); !why.empty()) throw ConfigError("train", why);
  }
  BatchShapes batch_shapes(const Model& model) const override {
    return fovea::batch_shapes(model, data_.options);
  }

  std::unique_ptr<TrainingBatches> training_batches(const Model& model, std::uint64_t seed) const override {
    return std::make_unique<StaticTrainingSampler>(data_, seed, model.placement().dtype,
                                                   model.placement().device);
  }
  std::unique_ptr<Validation> validation(const Model& model) const override {
    return std::make_unique<TierValidation>(data_, model.placement());
  }

  std::int64_t start_at_receptive_fields(Model& model,
                                         const std::vector<std::string>& sessions) const override {
    return fovea::start_at_receptive_fields(model, data_, sessions);
  }

  bool has_tests() const override {
    for (const StaticSession& session : data_.sessions)
      if (!session.trials(Tier::test).empty()) return true;
    return false;
  }
  std::vector<SessionScores> evaluate(const Model& model) const override {
    return evaluate_tests(model, data_, Tier::test);
  }

  Json provenance() const override {
    Json split = Json::object(), normalization = Json::object();
    for (const StaticSession& session : data_.sessions) {
      for (const Tier tier : all_tiers) split[session.key()][to_string(tier)] = session.trials(tier).size();
      if (const auto images = session.stimulus_normalization())
        normalization[session.key()] = {{"mean", images->mean}, {"std", images->deviation}};
    }
    Json options = write_static_data_options(data_.options);
    options.erase("readers");  // the same bytes whatever their number
    Json object{{"data", options}, {"data_hash", content_hash()}, {"split", split}};
    if (!normalization.empty()) object["normalization"] = normalization;
    return object;
  }

 private:
  const StaticDataSet& data_;
};

}  // namespace

std::unique_ptr<TrainingData> training_data(const DataSet& data, const DataOptions& options) {
  return std::make_unique<MovieTrainingData>(data, options);
}

std::unique_ptr<TrainingData> training_data(const StaticDataSet& data) {
  return std::make_unique<StaticTrainingData>(data);
}

}  // namespace fovea
