// Scores of static images against a direct computation: tables, tests of a model, validation.
#include "data/static_sampler.hpp"
#include "fovea/autograd.hpp"
#include "fovea/evaluation.hpp"
#include "sensorium_fixture.hpp"
#include "training/train_step.hpp"
#include "training/training_data.hpp"
#include "training/validation.hpp"

using namespace sensorium_test;

namespace {

using List = std::vector<double>;

double mean_of(const List& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

double covariance(const List& x, const List& y) {
  const double mx = mean_of(x), my = mean_of(y);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - mx) * (y[i] - my);
  return sum / (static_cast<double>(x.size()) - 1);
}

/// models.md section 6, word by word. Predictions and responses of one neuron; NaN: undefined.
struct Direct {
  double correlation = not_a_number, single = not_a_number, feve = not_a_number, explainable = not_a_number;

  Direct(const List& predictions, const List& responses, const std::vector<std::string>& ids) {
    std::vector<std::string> distinct = ids;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    List mean_prediction, mean_response, noise, all, errors;
    for (const std::string& id : distinct) {
      List p, r;
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] == id) p.push_back(predictions[i]), r.push_back(responses[i]);
      mean_prediction.push_back(mean_of(p));
      mean_response.push_back(mean_of(r));
      if (r.size() < 2) continue;
      noise.push_back(covariance(r, r));
      for (std::size_t i = 0; i < r.size(); ++i) {
        all.push_back(r[i]);
        errors.push_back((p[i] - r[i]) * (p[i] - r[i]));
      }
    }
    correlation = pearson(mean_prediction, mean_response);
    single = pearson(predictions, responses);
    if (noise.empty()) return;
    const double total = covariance(all, all);
    explainable = (total - mean_of(noise)) / total;
    if (explainable >= 0.15) feve = 1 - (mean_of(errors) - mean_of(noise)) / (total - mean_of(noise));
  }

 private:
  static double pearson(const List& x, const List& y) {
    return covariance(x, y) / std::sqrt(covariance(x, x) * covariance(y, y));
  }
};

bool agree(double expected, const std::optional<double>& actual) {
  if (std::isnan(expected)) return !actual;
  return actual && std::abs(expected - *actual) <= 1e-12 * std::max(1.0, std::abs(expected));
}

void check_scores(const std::vector<List>& predictions, const std::vector<List>& responses,
                  const std::vector<std::string>& ids, const std::vector<NeuronScore>& scores) {
  REQUIRE(scores.size() == predictions.size());
  REQUIRE(!scores.empty());
  for (std::size_t n = 0; n < scores.size(); ++n) {
    CAPTURE(n);
    const Direct direct(predictions[n], responses[n], ids);
    CHECK(agree(direct.correlation, scores[n].correlation));
    CHECK(agree(direct.single, scores[n].single_trial_correlation));
    CHECK(agree(direct.feve, scores[n].feve));
    if (!std::isnan(direct.feve)) CHECK(agree(direct.explainable, scores[n].explainable_variance));
  }
}

/// Lists per neuron as (trials, N).
FrameTable table_of(const std::vector<List>& neurons) {
  FrameTable table{
      static_cast<std::int64_t>(neurons[0].size()), static_cast<std::int64_t>(neurons.size()), {}};
  for (std::size_t trial = 0; trial < neurons[0].size(); ++trial)
    for (const List& neuron : neurons) table.values.push_back(neuron[trial]);
  return table;
}

const std::vector<std::string> repeated_ids{"7", "12", "7", "3", "7", "12", "a", "3", "9", "12", "9", "b"};

}  // namespace

TEST_CASE("scores of images: repeats, images seen once") {
  Numbers numbers(3);
  std::vector<List> predictions, responses;
  const List of_image = numbers.list(7, 0, 4);
  for (int n = 0; n < 6; ++n) {
    predictions.emplace_back();
    for (const std::string& id : repeated_ids) predictions.back().push_back(of_image[id.front() % 7u]);
    responses.push_back(predictions.back());
    const List noise = numbers.list(24, -1, 1);
    for (std::size_t i = 0; i < 12; ++i) {
      predictions.back()[i] += 0.1 * noise[i] * n;
      responses.back()[i] += 0.3 * noise[12 + i] * n;
    }
  }
  const auto scores = score_images(table_of(predictions), table_of(responses), repeated_ids);
  check_scores(predictions, responses, repeated_ids, scores);
  CHECK(*scores[0].correlation > 1 - 1e-12);
  int with_feve = 0;
  for (const NeuronScore& score : scores) with_feve += score.feve.has_value();
  CHECK(with_feve >= 2);
}

TEST_CASE("predictions are averaged over the trials of an image too") {
  // One image's predictions differ from trial to trial, as with behaviour or a shifter.
  const std::vector<List> predictions{{1, 3, 5, 2}}, responses{{2, 2, 6, 1}};
  const auto scores = score_images(table_of(predictions), table_of(responses), {"a", "a", "b", "c"});
  check_scores(predictions, responses, {"a", "a", "b", "c"}, scores);
  // (2, 5, 2) with (2, 6, 1)
  CHECK(agree(3 * 3 / std::sqrt(6 * 14.0), scores[0].correlation));
}

TEST_CASE("constant neurons and images seen once have no scores") {
  const std::vector<std::string> once{"1", "2", "3", "4"};
  const List moving{1, 4, 2, 7}, still{2, 2, 2, 2};
  auto scores =
      score_images(table_of({moving, moving, still, still}), table_of({moving, still, moving, still}), once);
  REQUIRE(scores.size() == 4);
  CHECK(agree(1, scores[0].correlation));
  for (std::size_t n = 1; n < 4; ++n) {
    CHECK_FALSE(scores[n].correlation);
    CHECK_FALSE(scores[n].single_trial_correlation);
  }
  for (const NeuronScore& score : scores) CHECK_FALSE(score.feve);
  // Constant over images once averaged, not over trials.
  scores = score_images(table_of({moving}), table_of({{1, 3, 3, 1}}), {"1", "1", "2", "2"});
  CHECK_FALSE(scores[0].correlation);
  CHECK(scores[0].single_trial_correlation);
  CHECK_FALSE(scores[0].feve);
  // One image: nothing to correlate.
  scores = score_images(table_of({moving}), table_of({{1, 3, 3, 1}}), {"1", "1", "1", "1"});
  CHECK_FALSE(scores[0].correlation);
  scores = score_images(table_of({still}), table_of({still}), {"1", "1", "2", "2"});
  CHECK_FALSE(scores[0].feve);
}

TEST_CASE("FEVE is empty below an explainable variance of 0.15, and not clipped") {
  // Two images with responses m +- d: noise 2 d^2, total ((m1 - m2)^2 + 4 d^2) / 3.
  const std::vector<std::string> ids{"1", "1", "2", "2"};
  const auto of_spread = [&](double d, const List& prediction) {
    const std::vector<List> responses{{5 - d, 5 + d, 7 - d, 7 + d}};
    const auto scores = score_images(table_of({prediction}), table_of(responses), ids);
    check_scores({prediction}, responses, ids, scores);
    return scores[0];
  };
  // explainable = 1 - 6 d^2 / (4 + 4 d^2) = 0.15 at d^2 = 3.4 / 2.6
  const double limit = std::sqrt(3.4 / 2.6);
  const List good{5, 5, 7, 7}, bad{9, 9, 1, 1};
  CHECK(of_spread(limit - 1e-6, good).feve);
  CHECK_FALSE(of_spread(limit + 1e-6, good).feve);
  CHECK(*of_spread(0.5, good).feve > 1);
  CHECK(*of_spread(0.5, bad).feve < -3);
}

TEST_CASE("tables that do not fit each other") {
  const FrameTable table = table_of({{1, 2, 3}});
  CHECK(error_of([&] { score_images(table, table_of({{1, 2}}), {"1", "2", "3"}); }) != "no error");
  CHECK(error_of([&] {
          score_images(table, table_of({{1, 2, 3}, {1, 2, 3}}), {"1", "2", "3"});
        }) != "no error");
  CHECK(error_of([&] { score_images(table, table, {"1", "2"}); }) != "no error");
  CHECK(error_of([&] { score_images({0, 1, {}}, {0, 1, {}}, {}); }) != "no error");
}

// ---- a model

namespace {

Placement f64() { return {cpu_device(1, Isa::reference), DType::f64}; }

Json encoder(const Json& sessions) {
  Json section = Json::parse(R"({"class": "FiringRateEncoder", "in_shape": [1, 6, 7],
    "core": {"class": "Stacked2dCore", "input_channels": 1, "hidden_channels": 3, "input_kern": 3, "hidden_kern": 3,
             "layers": 2},
    "readout": {"class": "FullGaussian2d", "bias": true, "init_mu_range": 0.9},
    "shifter": {"class": "MLPShifter", "hidden_channels_shifter": 3, "shift_layers": 2}})");
  section["sessions"] = sessions;
  return section;
}

/// Two sessions of images 6 x 7 with repeats in the test tier, and a model of them.
struct Trained {
  TemporaryFolder folder;
  StaticDataSet data;
  std::unique_ptr<Model> model;

  explicit Trained(std::int64_t batch_size = 4) {
    StaticDataOptions options;
    options.batch_size = batch_size;
    for (const char* name : {"first", "second"}) {
      const bool first = std::string(name) == "first";
      TinyForm form;
      form.tiers = first ? std::vector<std::string>{"train",      "test",       "test",       "validation",
                                                    "test",       "train",      "test",       "validation",
                                                    "validation", "validation", "validation", "test"}
                         : std::vector<std::string>{"test", "validation", "train", "test", "validation",
                                                    "test", "validation", "test",  "train"};
      form.image = {1, 6, 7};
      form.neurons = first ? 4 : 3;
      form.seed = first ? 8 : 9;
      TinySession tiny(form);
      std::vector<double> ids;
      for (std::size_t i = 0; i < form.tiers.size(); ++i)
        ids.push_back(form.tiers[i] == "test" ? 7 + static_cast<double>(ids.size() % 2)
                                              : 100 + static_cast<double>(i));
      tiny.files["meta/trials/image_id.npy"] = npy_list<std::int64_t>(ids);
      write_folder(folder / name, tiny.files);
      options.paths.push_back(folder / name);
    }
    data = open_sensorium(options);
    model =
        make_model(encoder({{"first", {{"n_neurons", 4}}}, {"second", {{"n_neurons", 3}}}}).dump(), f64(), 3);
  }
};

/// Prediction (1,N) for one trial, and its responses.
struct Pair {
  List prediction, response;
};

Pair predicted(const Model& model, const StaticSession& session, std::int64_t number) {
  const NoGrad no_grad;
  const StaticTrial trial = trial_of(session, number);
  const Device device = model.placement().device;
  ModelInput input{session.key(),
                   Tensor::from(trial.image, {1, 6, 7, 1}, device),
                   Tensor::from(trial.pupil_center, {1, 2}, device),
                   {}};
  return {test::values(model.forward(input, {})), trial.responses};
}

/// Predictions and responses of a tier, per neuron.
std::pair<std::vector<List>, std::vector<List>> tier_tables(const Model& model, const StaticSession& session,
                                                            Tier tier) {
  const auto neurons = static_cast<std::size_t>(session.n_neurons());
  std::vector<List> predictions(neurons), responses(neurons);
  for (const std::int64_t number : session.trials(tier)) {
    const Pair pair = predicted(model, session, number);
    for (std::size_t n = 0; n < neurons; ++n) {
      predictions[n].push_back(pair.prediction[n]);
      responses[n].push_back(pair.response[n]);
    }
  }
  return {predictions, responses};
}

}  // namespace

TEST_CASE("tests of an encoder are the scores of its predictions, trial by trial") {
  const Trained trained;
  const auto scores = evaluate_tests(*trained.model, trained.data);
  REQUIRE(scores.size() == 2);
  std::vector<NeuronScore> all;
  for (std::size_t i = 0; i < 2; ++i) {
    const StaticSession& session = trained.data.sessions[i];
    CHECK(scores[i].session == session.key());
    const auto [predictions, responses] = tier_tables(*trained.model, session, Tier::test);
    std::vector<std::string> ids;
    for (const std::int64_t number : session.trials(Tier::test)) ids.push_back(session.image_id(number));
    check_scores(predictions, responses, ids, scores[i].neurons);
    all.insert(all.end(), scores[i].neurons.begin(), scores[i].neurons.end());
  }
  double sum = 0;
  for (const NeuronScore& score : all) sum += score.correlation.value_or(0);
  CHECK(std::abs(summarize(scores).mean_correlation - sum / 7) < 1e-14);
  CHECK(summarize(scores).neurons == 7);
  // Another tier.
  const auto validation = evaluate_tests(*trained.model, trained.data, Tier::validation);
  CHECK(validation.size() == 2);
  CHECK(validation[0].neurons[0].correlation != scores[0].neurons[0].correlation);
  CHECK(mentions(error_of([&] { evaluate_tests(*trained.model, trained.data, Tier::final_test); }),
                 "final_test"));
}

TEST_CASE("tests act on a copy whose constraints were applied") {
  const Trained trained;
  Json section = encoder({{"first", {{"n_neurons", 4}}}, {"second", {{"n_neurons", 3}}}});
  section.erase("shifter");
  section["readout"] = {
      {"class", "FullFactorized2d"}, {"bias", true}, {"constrain_pos", true}, {"init_noise", 0.5}};
  const auto model = make_model(section.dump(), f64(), 3);
  std::map<std::string, Tensor> features;
  for (const NamedTensor& one : model->tensors())
    if (mentions(one.name, "_features")) features.emplace(one.name, one.tensor);
  REQUIRE(features.size() == 2);
  std::map<std::string, Tensor> before;
  for (const auto& [name, tensor] : features) before.emplace(name, tensor.clone());
  const auto scores = evaluate_tests(*model, trained.data);
  for (const auto& [name, tensor] : features) {
    CHECK(exact(before.at(name), tensor));
    List clamped = test::values(tensor);
    CHECK(*std::min_element(clamped.begin(), clamped.end()) < 0);
    for (double& value : clamped) value = std::max(value, 0.0);
    tensor.copy_from(Tensor::from(clamped, tensor.shape(), tensor.device()));
  }
  const auto clamped = evaluate_tests(*model, trained.data);
  int compared = 0;
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t n = 0; n < scores[i].neurons.size(); ++n) {
      CHECK(scores[i].neurons[n].single_trial_correlation == clamped[i].neurons[n].single_trial_correlation);
      compared += scores[i].neurons[n].single_trial_correlation.has_value();
    }
  CHECK(compared >= 4);
}

TEST_CASE("sessions that the model does not know are left out, another number of neurons is an error") {
  const Trained trained;
  const auto known = make_model(encoder({{"second", {{"n_neurons", 3}}}}).dump(), f64(), 3);
  const auto scores = evaluate_tests(*known, trained.data);
  REQUIRE(scores.size() == 1);
  CHECK(scores[0].session == "second");
  const auto other = make_model(encoder({{"third", {{"n_neurons", 3}}}}).dump(), f64(), 3);
  CHECK(error_of([&] { evaluate_tests(*other, trained.data); }) != "no error");
  const auto wrong = make_model(encoder({{"second", {{"n_neurons", 5}}}}).dump(), f64(), 3);
  const std::string message = error_of([&] { evaluate_tests(*wrong, trained.data); });
  CHECK(mentions(message, "second"));
  CHECK(mentions(message, "3"));
  CHECK(mentions(message, "5"));
}

TEST_CASE("validation: the metric of a whole tier at once, the loss of batches by their size") {
  for (const std::int64_t batch_size : {1, 2, 3, 64}) {
    CAPTURE(batch_size);
    const Trained trained(batch_size);
    const Model& model = *trained.model;
    TierValidation validation(trained.data, model.placement());
    StepMemory memory(model.placement().device);
    const ValidationScores scores = validation.run(model, memory), again = validation.run(model, memory);
    CHECK(scores.loss == again.loss);
    CHECK(scores.metric == again.metric);
    const NoGrad no_grad;
    double loss = 0, trials = 0, correlations = 0;
    for (const StaticSession& session : trained.data.sessions) {
      const auto [predictions, responses] = tier_tables(model, session, Tier::validation);
      for (std::size_t n = 0; n < predictions.size(); ++n)
        correlations +=
            covariance(predictions[n], responses[n]) /
            std::sqrt(covariance(predictions[n], predictions[n]) * covariance(responses[n], responses[n]));
      const FrameTable p = table_of(predictions), r = table_of(responses);
      for (std::int64_t begin = 0; begin < p.frames; begin += batch_size) {
        const std::int64_t count = std::min(batch_size, p.frames - begin);
        const Shape shape{count, p.neurons};
        const auto rows = [&](const FrameTable& table) {
          const auto first = table.values.begin() + static_cast<std::ptrdiff_t>(begin * p.neurons);
          return Tensor::from(List(first, first + static_cast<std::ptrdiff_t>(count * p.neurons)), shape,
                              model.placement().device);
        };
        loss += static_cast<double>(count) * mean_value(model.loss(rows(p), rows(r))) /
                static_cast<double>(count + p.neurons);
        trials += static_cast<double>(count);
      }
    }
    CHECK(close({correlations / 7, loss / trials}, {scores.metric, scores.loss}, 1e-10));
    CHECK(close({correlations / 7}, {scores.metric}, 1e-9));
  }
}

// ---- what training asks of the data

TEST_CASE("training needs a training and a validation tier of every session") {
  for (const char* missing : {"train", "validation"}) {
    const Trained trained;
    TinyForm form;
    form.tiers = {missing == std::string("train") ? "validation" : "train", "test"};
    form.image = {1, 6, 7};
    form.neurons = 3;
    const std::string path = trained.folder / "lacks/second";
    write_folder(path, TinySession(form).files);
    StaticDataOptions options = trained.data.options;
    options.paths[1] = path;
    const StaticDataSet data = open_sensorium(options);
    const std::string message = error_of([&] { training_data(data)->check_trainable(*trained.model); });
    CHECK(mentions(message, text("session second has no trial of the tier ", missing)));
    CHECK(mentions(message, path));
    training_data(data)->check_fits(*trained.model);  // predictions and tests do without
  }
}

TEST_CASE("a model of other images, or with a shifter where there are no pupil centres, does not fit") {
  const Trained trained;
  StaticDataOptions options = trained.data.options;
  options.scale = 0.5;
  const StaticDataSet small = open_sensorium(options);
  const std::string shapes = error_of([&] { training_data(small)->check_fits(*trained.model); });
  CHECK(mentions(shapes, "(1, 3, 4)"));
  CHECK(mentions(shapes, "(1, 6, 7)"));
  options = trained.data.options;
  options.include_eye_position = false;
  const StaticDataSet blind = open_sensorium(options);
  CHECK(mentions(error_of([&] { training_data(blind)->check_fits(*trained.model); }), "pupil"));
}

TEST_CASE("the provenance keeps options, hash, tiers and normalisation; the hash sees every change") {
  const Trained trained;
  const Json provenance = training_data(trained.data)->provenance();
  CHECK(provenance.at("data").at("format") == "sensorium_static");
  CHECK(provenance.at("data_hash") == trained.data.content_hash());
  CHECK(provenance.at("split").at("first") ==
        Json::parse(R"({"train": 2, "validation": 5, "test": 5, "final_test": 0})"));
  CHECK(provenance.at("normalization").at("second") == Json::parse(R"({"mean": 120.0, "std": 50.0})"));
  const TinySession tiny;
  const auto hash = [](const Files& files) {
    const TemporaryFolder folder;
    StaticDataOptions options;
    options.paths = {folder / "tiny.zip"};
    write_zip(options.paths[0], files);
    return StaticSession(options, 0).content_hash();
  };
  const std::string before = hash(tiny.files);
  CHECK(before.size() == 16);
  CHECK(hash(tiny.files) == before);
  TinySession changed;
  changed.set("responses", 4, {1, 2, 3, 4, 5}, {5});
  CHECK(hash(changed.files) != before);
  changed = TinySession();
  changed.statistic("pupil_center", "std", {8, 6});
  CHECK(hash(changed.files) != before);
  changed = TinySession();
  changed.form.tiers[0] = "test";
  changed.files["meta/trials/tiers.npy"] = npy_words(changed.form.tiers);
  CHECK(hash(changed.files) != before);
}
