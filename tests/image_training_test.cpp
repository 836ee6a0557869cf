// Models of images on movies: training, validation, tests, prediction, what is refused.
#include "data/sample_form.hpp"
#include "disguised_model.hpp"
#include "fovea/klindt_core_readout.hpp"
#include "fovea/receptive_fields.hpp"
#include "training/trainability.hpp"
#include "training_fixture.hpp"

using namespace training_test;

namespace {

constexpr std::int64_t frames_per_image = 3;

/// One session of movies with two channels, and a repeated test movie.
DataSet one_session() {
  DataSet data;
  Session session;
  session.key = "s-1.a";
  session.neurons = 4;
  session.stimulus = TimeSeries({stored({2, 100, 6, 7}, 21, false), stored({2, 60, 6, 7}, 22, false)});
  session.responses = TimeSeries({stored({4, 160}, 23, true)});
  session.mean_activity = session.responses.channel_means();
  TestMovie test;
  test.name = "test";
  test.stimulus = TimeSeries({stored({2, 50, 6, 7}, 24, false)});
  test.responses = TimeSeries({stored({4, 50}, 25, true)});
  test.responses_by_trial = stored({3, 4, 50}, 26, true);
  session.tests.push_back(test);
  data.sessions.push_back(session);
  data.normalization = Normalization{0.1, 1.5};
  data.channels = 2;
  data.height = 6;
  data.width = 7;
  data.content_hash = "0123456789abcdef";
  return data;
}

Json klindt_section(std::int64_t channels = 2 * frames_per_image) {
  return {{"class", "KlindtCoreReadout2D"},
          {"image_size", {6, 7}},
          {"image_channels", channels},
          {"kernel_sizes", {3, 2}},
          {"num_kernels", {3, 4}},
          {"act_fns", {"relu", "softplus"}},
          {"reg", {1e-3, 1e-3, 1e-3, 0.2}},
          {"init_scales", {{0.0, 0.2}, {0.1, 0.1}, {0.1, 0.1}}},
          {"weights_constraint", "abs"},
          {"mask_constraint", "abs"},
          {"seed", 4},
          {"sessions", {{"s-1.a", {{"n_neurons", 4}}}}}};
}

std::unique_ptr<Model> klindt(const Placement& placement, std::int64_t channels = 2 * frames_per_image) {
  return make_model(klindt_section(channels).dump(), placement, 5);
}

RunOptions image_options(const std::string& folder, std::int64_t epochs) {
  RunOptions options = run_options(folder, epochs);
  options.data.frames_per_image = frames_per_image;
  return options;
}

/// Frame `last` of a movie and those before it as one image (1,H,W,C k), value by value.
Tensor image_at(const TimeSeries& movie, std::int64_t last, std::int64_t k, const Placement& placement,
                const Normalization& normalization) {
  const std::int64_t channels = movie.channels(), pixels = movie.height() * movie.width();
  std::vector<double> values(static_cast<std::size_t>(pixels * channels * k));
  for (std::int64_t j = 0; j < k; ++j) {
    const Tensor frame =
        movie.read(last - k + 1 + j, last - k + 2 + j, placement.dtype, placement.device, normalization);
    const std::vector<double> wide = frame.to(DType::f64).to_vector<double>();
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t c = 0; c < channels; ++c)
        values[static_cast<std::size_t>((p * channels + c) * k + j)] =
            wide[static_cast<std::size_t>(p * channels + c)];
  }
  return Tensor::from(values, {1, movie.height(), movie.width(), channels * k}, placement.device)
      .to(placement.dtype);
}

/// Predictions of all images of a movie, one at a time.
std::vector<double> predictions_one_by_one(const Model& model, const TimeSeries& movie, std::int64_t k,
                                           const Normalization& normalization) {
  const NoGrad no_grad;
  std::vector<double> all;
  for (std::int64_t last = k - 1; last < movie.frames(); ++last) {
    const Tensor image = image_at(movie, last, k, model.placement(), normalization);
    const Tensor output = model.forward({"s-1.a", image, {}, {}}, {});
    for (const double value : output.to(DType::f64).to_vector<double>()) all.push_back(value);
  }
  return all;
}

}  // namespace

TEST_CASE("validation of images weighs by them and divides by the sum of their output's extents") {
  const Placement placement = reference_f64();
  const DataSet data = one_session();
  const auto model = klindt(placement);
  DataOptions options = image_options("", 1).data;
  options.num_val_clips = 3;  // the second batch is one clip
  ValidationClips clips(data, options, placement.dtype, placement.device, sample_form(*model, options));
  StepMemory memory(placement.device);
  const ValidationScores scores = validate(*model, clips, memory);
  const NoGrad no_grad;
  const std::vector<std::int64_t> validation = split_clips(data.sessions[0], options).validation;
  double loss = 0, metric = 0, samples = 0;
  for (const auto& [first, last] : {std::pair{0, 2}, std::pair{2, 3}}) {
    std::vector<double> predicted, counted;
    for (int i = first; i < last; ++i)
      for (std::int64_t inside = frames_per_image - 1; inside < options.clip_length; ++inside) {
        const std::int64_t frame = validation[static_cast<std::size_t>(i)] * options.clip_length + inside;
        const Tensor image =
            image_at(data.sessions[0].stimulus, frame, frames_per_image, placement, *data.normalization);
        const Tensor output = model->forward({"s-1.a", image, {}, {}}, {});
        for (const double value : output.to_vector<double>()) predicted.push_back(value);
        const Tensor response =
            data.sessions[0].responses.read(frame, frame + 1, placement.dtype, placement.device);
        for (const double value : response.to_vector<double>()) counted.push_back(value);
      }
    const std::int64_t images = (last - first) * (options.clip_length - frames_per_image + 1);
    const Tensor output = Tensor::from(predicted, {images, 4}, placement.device);
    const Tensor responses = Tensor::from(counted, {images, 4}, placement.device);
    const auto weight = static_cast<double>(images);
    loss += weight * model->loss(output, responses).item() / (weight + 4);
    metric += weight * model->metric(output, responses).item();
    samples += weight;
  }
  CHECK(samples == 54);
  CHECK(scores.loss == doctest::Approx(loss / samples).epsilon(1e-12));
  CHECK(scores.metric == doctest::Approx(metric / samples).epsilon(1e-12));
}

TEST_CASE("predictions of a movie are those of its images, the same bits however they are cut") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const Placement placement{cpu_device(2), dtype};
    const DataSet data = one_session();
    for (const std::int64_t k : {1, 3, 5}) {
      CAPTURE(k);
      const auto model = klindt(placement, 2 * k);
      model->apply_constraints("s-1.a");
      const TimeSeries& movie = data.sessions[0].stimulus;  // 160 frames: more than one batch
      const std::vector<double> expected = predictions_one_by_one(*model, movie, k, *data.normalization);
      const FrameReader read = [&](std::int64_t begin, std::int64_t end) {
        return movie.read(begin, end, placement.dtype, placement.device, *data.normalization);
      };
      const FrameTable whole = predict_movie(*model, "s-1.a", 160, read);
      CHECK(whole.frames == 160 - k + 1);
      CHECK(whole.neurons == 4);
      REQUIRE(whole.values.size() == expected.size());
      // Sums of fewer than 100 products that are not negative, in two orders.
      const double tolerance = 100 * (dtype == DType::f64 ? std::numeric_limits<double>::epsilon()
                                                          : std::numeric_limits<float>::epsilon());
      for (std::size_t i = 0; i < expected.size(); ++i)
        REQUIRE(std::abs(whole.values[i] - expected[i]) <= tolerance * (1 + std::abs(expected[i])));
      for (const std::int64_t batch : {1, 2, 7, 64, 1000})
        CHECK(predict_movie(*model, "s-1.a", 160, read, batch).values == whole.values);
      const FrameTable tail = predict_movie(*model, "s-1.a", 60 + k - 1, [&](auto begin, auto end) {
        return read(100 - k + 1 + begin, 100 - k + 1 + end);
      });
      CHECK(tail.values == std::vector<double>(whole.values.end() - 60 * 4, whole.values.end()));
    }
  }
}

TEST_CASE("the test correlation of images is over the frames that have one") {
  const Placement placement{cpu_device(1), DType::f32};
  DataSet data = one_session();
  const auto model = klindt(placement);
  const auto scores = evaluate_tests(*model, data);
  REQUIRE(scores.size() == 1);
  const auto constrained = model->clone();
  constrained->apply_constraints("s-1.a");
  const TestMovie& test = data.sessions[0].tests[0];
  TestFrames frames;
  frames.prediction = {48, 4, predictions_one_by_one(*constrained, test.stimulus, 3, *data.normalization)};
  const auto last = [&](const TimeSeries& responses) {
    return FrameTable{48, 4, responses.read(2, 50, DType::f64, placement.device).to_vector<double>()};
  };
  frames.mean = last(test.responses);
  for (std::int64_t trial = 0; trial < 3; ++trial)
    frames.trials.push_back(last(TimeSeries({test.responses_by_trial.at(trial)})));
  const std::vector<NeuronScore> expected = score_neurons({frames});
  for (std::size_t n = 0; n < 4; ++n) {
    REQUIRE(expected[n].correlation);
    CHECK(*scores[0].neurons[n].correlation == doctest::Approx(*expected[n].correlation).epsilon(1e-5));
    CHECK(*scores[0].neurons[n].single_trial_correlation ==
          doctest::Approx(*expected[n].single_trial_correlation).epsilon(1e-5));
    CHECK(scores[0].neurons[n].explainable_variance == expected[n].explainable_variance);
  }
  data.sessions[0].tests[0].stimulus = TimeSeries({stored({2, 2, 6, 7}, 24, false)});
  CHECK(contains(message_of([&] { evaluate_tests(*model, data); }), "too short: an image takes 3"));
  CHECK(contains(message_of([&] { evaluate_tests(*klindt(placement, 5), data); }),
                 "5 channels of KlindtCoreReadout2D, 2 of a frame"));
}

TEST_CASE("a resumed training on images equals an uninterrupted one bit for bit") {
  const Placement placement{cpu_device(2), DType::f32};
  const DataSet data = one_session();
  const TemporaryFolder whole_folder, cut_folder;
  const auto whole = klindt(placement);
  TrainingHooks counting;
  std::int64_t batches = 0;
  counting.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses& losses) {
    ++batches;
    CHECK(std::isfinite(losses.total));
  };
  Trainer uninterrupted(*whole, data, image_options(whole_folder.path(), 3), counting);
  const TrainingResult expected = uninterrupted.run();
  CHECK(batches == 3 * 4);  // 6 training clips of 20 frames: 8 chunks of 16, 4 batches of 2
  CHECK_FALSE(same_bits(*whole, *klindt(placement)));

  int interruptions = 0;
  std::unique_ptr<Model> model = klindt(placement);
  TrainingResult result;
  for (bool resumed = false;; resumed = true) {
    std::optional<Checkpoint> checkpoint;
    if (resumed) {
      checkpoint = read_checkpoint(checkpoint_path(cut_folder.path()), placement.device);
      model = make_model(*checkpoint, placement);
    }
    std::atomic<bool> stop{false};
    TrainingHooks hooks;
    hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses&) { stop = true; };
    Trainer trainer(*model, data, image_options(cut_folder.path(), 3), hooks);
    if (checkpoint) trainer.resume(*checkpoint);
    result = trainer.run(&stop);
    if (result.end != TrainingEnd::interrupted) break;
    REQUIRE(++interruptions < 100);
  }
  CHECK(interruptions >= 6);
  CHECK(result.best.metric == expected.best.metric);
  CHECK(same_bits(*whole, *model));
  CHECK(read_file(whole_folder.path("model.safetensors")) == read_file(cut_folder.path("model.safetensors")));
}

TEST_CASE("what the data cannot give a model of images is refused before anything is written") {
  const Placement placement = reference_f64();
  DataSet data = one_session();
  const auto refused = [&](Model& model, auto change) {
    const TemporaryFolder folder;
    RunOptions run = image_options(folder.path(), 1);
    change(run.data);
    const std::string message = message_of([&] { train(model, data, run); });
    CHECK(std::filesystem::is_empty(folder.path()));
    CHECK(message_of([&] { check_trainable(model, data, run.data); }) != "no error");
    return message;
  };
  const auto nothing = [](DataOptions&) {};
  CHECK(
      refused(*klindt(placement, 2), nothing) ==
      "[model] images must have the 2 x 3 = 6 channels (of the stimulus x frames_per_image) and 6 x 7 pixels "
      "of the data: (2, 6, 7)");
  CHECK(contains(refused(*klindt(placement), [](DataOptions& o) { o.frames_per_image = 1; }),
                 "2 x 1 = 2 channels"));
  CHECK(refused(*klindt(placement), [](DataOptions& o) { o.train_chunk_size = 2; }) ==
        "[data] train_chunk_size: must be at least frames_per_image 3: 2");
  CHECK(refused(*klindt(placement), [](DataOptions& o) { o.clip_length = 2; }) ==
        "[data] clip_length: must be at least frames_per_image 3: 2");
  data.sessions[0].tests[0].stimulus = TimeSeries({stored({2, 2, 6, 7}, 3, false)});
  CHECK(refused(*klindt(placement), nothing) ==
        "[train] test movie test of 2 frames is too short: an image takes frames_per_image 3");
  data = two_sessions();
  CHECK(refused(*tiny_model(placement), nothing) ==
        "[data] frames_per_image: must be 1 where the model takes movies, as CoreReadout does: 3");
}

TEST_CASE("a shifter needs pupil centres, which movies have none of") {
  const DataSet data = one_session();
  const TemporaryFolder folder;
  Disguised model(klindt(reference_f64()));
  model.columns = 2;
  CHECK(message_of([&] { train(model, data, image_options(folder.path(), 1)); }) ==
        "[data] the shifter of KlindtCoreReadout2D needs a pupil centre, which the format has none of: "
        "openretina_hdf5");
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("receptive fields are those of models of movies") {
  const auto model = klindt(reference_f64());
  const FrameReader read = [&](std::int64_t, std::int64_t) -> Tensor {
    throw Error("test", "nothing to read");
  };
  CHECK(message_of([&] { receptive_fields(*model, "s-1.a", 50, read); }) ==
        "[receptive_fields] needs a model that takes movies, KlindtCoreReadout2D takes images of shape: (6, "
        "6, 7)");
}
