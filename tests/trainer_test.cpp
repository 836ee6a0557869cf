// Validation, test metrics, whole runs: resuming, determinism, run folders, errors.
#include "fovea/version.hpp"
#include "training_fixture.hpp"

using namespace training_test;

TEST_CASE("validation follows openretina's weighting and allocates nothing the second time") {
  const Placement placement = reference_f64();
  const DataSet data = two_sessions();
  const auto model = tiny_model(placement, 0);
  DataOptions options = data_options();
  options.num_val_clips = 3;
  ValidationClips clips(data, options, placement.dtype, placement.device);
  StepMemory memory(placement.device);
  const auto scores = validate(*model, clips, memory);
  double loss = 0, metric = 0, samples = 0;
  {
    const NoGrad no_grad;
    clips.rewind();
    while (const Batch* batch = clips.next()) {
      const Tensor output = model->forward({batch->session, batch->stimulus, {}, {}}, {});
      const Shape& s = output.shape();
      const double b = static_cast<double>(s[0]);
      loss += b * model->loss(output, batch->responses).item() / static_cast<double>(s[0] + s[1] + s[2]);
      metric += b * model->metric(output, batch->responses).item();
      samples += b;
    }
  }
  CHECK(samples == 6);
  CHECK(scores.loss == doctest::Approx(loss / samples).epsilon(1e-12));
  CHECK(scores.metric == doctest::Approx(metric / samples).epsilon(1e-12));
  validate(*model, clips, memory);
  const std::uint64_t before = placement.device.memory().allocations;
  const auto again = validate(*model, clips, memory);
  CHECK(placement.device.memory().allocations == before);
  CHECK(again.loss == scores.loss);
}

TEST_CASE("a long movie in chunks gives what one pass gives, also with padding and cut frames") {
  const Placement placement = reference_f64();
  const auto build = [&](const PaddingOption& hidden, std::int64_t cut) {
    CoreReadoutOptions options;
    options.in_shape = {1, 16, 6, 7};
    options.hidden_channels = {3, 4};
    options.temporal_kernel_sizes = {6, 4};
    options.spatial_kernel_sizes = {3, 3};
    options.core_input_padding = std::array<std::int64_t, 3>{cut ? 2 : 0, 1, 1};
    options.core_hidden_padding = hidden;
    options.cut_first_n_frames_in_core = cut;
    return make_core_readout(options, {{"s", 5, {}}}, placement, 5);
  };
  const TimeSeries movie({stored({1, 150, 6, 7}, 4, false)});
  const FrameReader read = [&](std::int64_t begin, std::int64_t end) {
    return movie.read(begin, end, placement.dtype, placement.device);
  };
  int compared = 0;
  for (const PaddingOption& hidden :
       {PaddingOption(false), PaddingOption(true), PaddingOption(std::array<std::int64_t, 3>{7, 0, 0})}) {
    for (const std::int64_t cut : {0, 3}) {
      const auto model = build(hidden, cut);
      const FrameTable whole = predict_movie(*model, "s", 150, read, 1000);
      for (const std::int64_t chunk : {1, 13, 64}) {
        const FrameTable parts = predict_movie(*model, "s", 150, read, chunk);
        REQUIRE(parts.frames == whole.frames);
        REQUIRE(parts.values.size() == whole.values.size());
        for (std::size_t i = 0; i < whole.values.size(); ++i)
          CHECK(std::abs(parts.values[i] - whole.values[i]) <= 1e-14 * std::abs(whole.values[i]));
        ++compared;
      }
    }
  }
  CHECK(compared == 18);
}

TEST_CASE("short clips that padding makes longer are predicted as they are run, whole or in chunks") {
  const Placement placement = reference_f64();
  int compared = 0;
  for (const char* type : {"custom_separable", "separable", "full", "time_independent"}) {
    for (const std::int64_t padding : {0, 1, 2, 3}) {
      CoreReadoutOptions options;
      options.in_shape = {1, 12, 6, 6};
      options.hidden_channels = {2, 3};
      options.temporal_kernel_sizes = {3, 4};
      options.spatial_kernel_sizes = {3, 3};
      options.core_gamma_temporal = 0;
      options.core_input_padding = padding;
      options.core_hidden_padding = std::array<std::int64_t, 3>{padding, 1, 1};
      options.convolution_type = type;
      const auto model = make_core_readout(options, {{"s", 2, {}}}, placement, 5);
      for (std::int64_t frames = 1; frames <= 6; ++frames) {
        CAPTURE(type);
        CAPTURE(padding);
        CAPTURE(frames);
        const TimeSeries movie({stored({1, frames, 6, 6}, 4, false)});
        const FrameReader read = [&](std::int64_t begin, std::int64_t end) {
          return movie.read(begin, end, placement.dtype, placement.device);
        };
        Tensor whole;
        try {
          const NoGrad no_grad;
          whole = model->forward({"s", read(0, frames), {}, {}}, {});
        } catch (const ShapeError&) {
          CHECK_THROWS_AS(predict_movie(*model, "s", frames, read), ShapeError);
          continue;
        }
        const std::vector<double> expected = values(whole);
        for (const std::int64_t chunk : {0, 1, 2, 5}) {
          const FrameTable parts = predict_movie(*model, "s", frames, read, chunk);
          REQUIRE(parts.values.size() == expected.size());
          for (std::size_t i = 0; i < expected.size(); ++i)
            CHECK(std::abs(parts.values[i] - expected[i]) <= 1e-14 * std::abs(expected[i]));
          ++compared;
        }
      }
    }
  }
  CHECK(compared > 300);
}

TEST_CASE("what cannot be trained is refused before anything is written") {
  const Placement placement = reference_f64();
  DataSet data = two_sessions();
  const auto refused = [&](const Json& changes, const DataOptions& options) {
    const TemporaryFolder folder;
    Json section = Json::parse(tiny_model(placement)->config());
    section.update(changes);
    const auto model = make_model(section.dump(), placement);
    RunOptions run = run_options(folder.path(), 1);
    run.data = options;
    const std::string message = message_of([&] { train(*model, data, run); });
    CHECK(std::filesystem::is_empty(folder.path()));
    return message;
  };
  CHECK(refused({{"loss", {{"class", "PoissonLoss3d"}, {"per_neuron", true}}}}, data_options()) ==
        "[train] training minimises one number, so loss.per_neuron must be false: true");
  CHECK(refused({{"core_input_padding", 5}}, data_options()) ==
        "[train] padding in time makes predictions longer than responses, which are as long as the stimulus: "
        "21 frames for train_chunk_size of 16");
  DataOptions short_ones = data_options();
  short_ones.train_chunk_size = 5;
  CHECK(contains(refused(Json::object(), short_ones),
                 "train_chunk_size of 5 frames is too short: [CoreReadout] layer 0"));
  short_ones = data_options();
  short_ones.clip_length = 5;
  CHECK(contains(refused(Json::object(), short_ones), "clip_length of 5 frames is too short"));
  data.sessions[1].tests[0].stimulus = TimeSeries({stored({1, 5, 6, 7}, 3, false)});
  CHECK(contains(refused(Json::object(), data_options()), "test movie test of 5 frames is too short"));
}

TEST_CASE("a metric per neuron trains as its mean") {
  const Placement placement = reference_f64();
  const DataSet data = two_sessions();
  const auto epoch = [&](const Json& metric) {
    Json section = Json::parse(tiny_model(placement)->config());
    section["metric"] = metric;
    const auto model = make_model(section.dump(), placement, 5);
    EpochMetrics last;
    TrainingHooks hooks;
    hooks.on_epoch = [&](const EpochMetrics& metrics, bool) { last = metrics; };
    train(*model, data, run_options("", 1), hooks);
    return last;
  };
  const EpochMetrics mean = epoch({{"class", "CorrelationLoss3d"}, {"avg", true}});
  const EpochMetrics each = epoch({{"class", "CorrelationLoss3d"}, {"per_neuron", true}});
  CHECK(each.val_evaluation_loss == doctest::Approx(mean.val_evaluation_loss).epsilon(1e-12));
  CHECK(each.train_evaluation_loss == doctest::Approx(mean.train_evaluation_loss).epsilon(1e-12));
  CHECK(each.train_loss == mean.train_loss);
}

TEST_CASE("test metrics: correlation, single trials, explainable variance, undefined values") {
  // Neurons: 0 perfect, 1 constant response, 2 constant prediction, 3 worked out by hand.
  const FrameTable prediction{4, 4, {1, 1, 2, 1, 2, 2, 2, 2, 3, 3, 2, 2, 5, 4, 2, 3}};
  const FrameTable first{4, 4, {1, 0, 1, 0, 2, 0, 2, 2, 3, 0, 3, 1, 5, 0, 4, 5}};
  const FrameTable second{4, 4, {1, 0, 2, 2, 2, 0, 1, 2, 3, 0, 5, 3, 5, 0, 1, 3}};
  FrameTable mean = first;
  for (std::size_t i = 0; i < mean.values.size(); ++i)
    mean.values[i] = (first.values[i] + second.values[i]) / 2;
  const auto scores = score_neurons({{prediction, mean, {first, second}}});
  REQUIRE(scores.size() == 4);
  CHECK(*scores[0].correlation == doctest::Approx(1.0));
  CHECK(*scores[0].feve == doctest::Approx(1.0));
  CHECK(*scores[0].explainable_variance == doctest::Approx(1.0));
  for (const int undefined : {1, 2}) {
    CHECK_FALSE(scores[static_cast<std::size_t>(undefined)].correlation.has_value());
    CHECK_FALSE(scores[static_cast<std::size_t>(undefined)].single_trial_correlation.has_value());
  }
  CHECK_FALSE(scores[1].feve.has_value());
  // Neuron 3: prediction 1 2 2 3, trials 0 2 1 5 and 2 2 3 3, mean 1 2 2 4.
  CHECK(*scores[3].correlation == doctest::Approx(3.0 / std::sqrt(2.0 * 4.75)).epsilon(1e-12));
  CHECK(*scores[3].single_trial_correlation == doctest::Approx(6.0 / std::sqrt(4.0 * 15.5)).epsilon(1e-12));
  const double total = 15.5 / 7, noise = (2 + 0 + 2 + 2) / 4.0, mse = (1 + 1 + 0 + 0 + 1 + 1 + 4 + 0) / 8.0;
  CHECK(*scores[3].explainable_variance == doctest::Approx((total - noise) / total).epsilon(1e-12));
  CHECK(*scores[3].feve == doctest::Approx(1 - (mse - noise) / (total - noise)).epsilon(1e-12));

  // Without trials the mean is the only one, and there is no explainable variance.
  const auto single = score_neurons({{prediction, mean, {}}});
  CHECK(*single[3].single_trial_correlation == *single[3].correlation);
  CHECK_FALSE(single[3].feve.has_value());
  // Movies are concatenated.
  const auto twice =
      score_neurons({{prediction, mean, {first, second}}, {prediction, mean, {first, second}}});
  CHECK(*twice[3].correlation == doctest::Approx(*scores[3].correlation).epsilon(1e-12));

  const std::vector<SessionScores> table{{"a,b", {scores[1], scores[0]}}};
  CHECK(summarize(table).neurons == 2);
  CHECK(summarize(table).mean_correlation == doctest::Approx(0.5));
  const std::string csv = test_csv(table);
  CHECK(csv.rfind("session,neuron,correlation,single_trial_correlation,feve\n\"a,b\",0,,,\n\"a,b\",1,", 0) ==
        0);
  FrameTable shorter = mean;
  shorter.frames = 3;
  CHECK_THROWS_AS(score_neurons({{prediction, shorter, {}}}), ShapeError);
}

TEST_CASE("a resumed run equals an uninterrupted one bit for bit") {
  const Placement placement{cpu_device(2), DType::f32};
  const DataSet data = two_sessions();
  TemporaryFolder whole_folder, cut_folder;
  const auto whole = tiny_model(placement);
  Trainer uninterrupted(*whole, data, run_options(whole_folder.path(), 3));
  const TrainingResult expected = uninterrupted.run();
  CHECK(expected.end == TrainingEnd::max_epochs);
  CHECK(expected.epochs == 3);

  // Stopped after every single batch, in the middle of accumulation too, and resumed by a new trainer each
  // time.
  int interruptions = 0;
  std::unique_ptr<Model> model = tiny_model(placement);
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
    Trainer trainer(*model, data, run_options(cut_folder.path(), 3), hooks);
    if (checkpoint) trainer.resume(*checkpoint);
    result = trainer.run(&stop);
    if (result.end != TrainingEnd::interrupted) break;
    REQUIRE(++interruptions < 200);
  }
  CHECK(interruptions >= 6);
  CHECK(result.best.epoch == expected.best.epoch);
  CHECK(result.best.metric == expected.best.metric);
  CHECK(same_bits(*whole, *model));
  CHECK(read_file(whole_folder.path("model.safetensors")) == read_file(cut_folder.path("model.safetensors")));
  const auto a = read_checkpoint(checkpoint_path(whole_folder.path()), placement.device);
  const auto b = read_checkpoint(checkpoint_path(cut_folder.path()), placement.device);
  REQUIRE(a.content.tensors.size() == b.content.tensors.size());
  for (std::size_t i = 0; i < a.content.tensors.size(); ++i)
    CHECK(exact(a.content.tensors[i].second, b.content.tensors[i].second));
  REQUIRE(a.state.history.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EpochMetrics left = a.state.history[i], right = b.state.history[i];
    left.seconds = right.seconds = 0;
    CHECK(metrics_csv({left}) == metrics_csv({right}));
  }
}

TEST_CASE("a run that dies without a word resumes from its last checkpoint to the same files") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  TemporaryFolder whole_folder, dead_folder;
  const auto whole = tiny_model(placement);
  Trainer(*whole, data, run_options(whole_folder.path(), 3)).run();
  // In the middle of the first epoch, of a later one, and right after an epoch's files were written.
  for (const std::int64_t fatal : {3, 17, 24}) {
    CAPTURE(fatal);
    std::int64_t batches = 0;
    TrainingHooks hooks;
    hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses&) {
      if (++batches == fatal) throw std::runtime_error("dead");
    };
    const auto model = tiny_model(placement);
    Trainer dead(*model, data, run_options(dead_folder.path(), 3), hooks);
    CHECK_THROWS_AS(dead.run(), std::runtime_error);
    const Checkpoint checkpoint = read_checkpoint(checkpoint_path(dead_folder.path()), placement.device);
    const auto resumed = make_model(checkpoint, placement);
    Trainer trainer(*resumed, data, run_options(dead_folder.path(), 3));
    trainer.resume(checkpoint);
    trainer.run();
    CHECK(same_bits(*whole, *resumed));
    CHECK(read_file(whole_folder.path("model.safetensors")) ==
          read_file(dead_folder.path("model.safetensors")));
  }
}

TEST_CASE("train leaves the values of the best epoch in the model, with and without a run folder") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  const TemporaryFolder folder;
  const auto with_files = tiny_model(placement), without = tiny_model(placement);
  RunOptions options = run_options(folder.path(), 4);
  options.training.scheduler->monitor = "train_loss";
  const TrainingResult first = train(*with_files, data, options);
  CHECK(same_bits(*with_files, *load_model(folder.path("model.safetensors"), placement).model));
  options.folder.clear();
  std::int64_t epochs = 0;
  TrainingHooks hooks;
  hooks.on_epoch = [&](const EpochMetrics&, bool) { ++epochs; };
  const TrainingResult second = train(*without, data, options, hooks);
  CHECK(epochs == second.epochs);
  CHECK(first.best.epoch == second.best.epoch);
  CHECK(same_bits(*with_files, *without));
  // The last epoch is another one, or the test would not see a missing restore.
  const auto last = tiny_model(placement);
  Trainer(*last, data, options).run();
  CHECK((second.best.epoch + 1 == second.epochs) == same_bits(*last, *without));
}

TEST_CASE("training gives the same bits for any number of threads, and other bits for another seed") {
  const DataSet data = two_sessions();
  const auto train_on = [&](const Device& device, std::uint64_t seed) {
    TemporaryFolder folder;
    const Placement placement{device, DType::f32};
    const auto model = tiny_model(placement);
    RunOptions options = run_options(folder.path(), 2);
    options.seed = seed;
    Trainer(*model, data, options).run();
    std::string bits;
    for (const NamedTensor& one : model->tensors()) {
      const std::size_t size = one.tensor.bytes();
      bits.append(static_cast<const char*>(one.tensor.raw()), size);
    }
    return bits;
  };
  const std::string one = train_on(cpu_device(1), 11);
  for (const int threads : {2, 3, 7}) CHECK(train_on(cpu_device(threads), 11) == one);
  CHECK(train_on(cpu_device(1), 12) != one);
  int wide = 0;  // AVX2 and AVX-512 agree bit for bit
  for (const Isa isa : available_isas()) {
    if (isa != Isa::avx2 && isa != Isa::avx512) continue;
    ++wide;
    for (const int threads : {1, 3}) CHECK(train_on(cpu_device(threads, isa), 11) == one);
  }
  if (wide < 2) MESSAGE("1 skipped: this machine or build has " << wide << " of AVX2 and AVX-512");
}

TEST_CASE("the run folder: metrics, best model with its provenance, checkpoint") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  TemporaryFolder folder;
  const auto model = tiny_model(placement);
  RunOptions options = run_options(folder.path(), 2);
  std::vector<EpochMetrics> seen;
  std::vector<bool> best;
  std::int64_t batches = 0;
  TrainingHooks hooks;
  hooks.on_epoch = [&](const EpochMetrics& metrics, bool is_best) {
    seen.push_back(metrics);
    best.push_back(is_best);
  };
  hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses& losses) {
    ++batches;
    CHECK(std::isfinite(losses.total));
  };
  Trainer trainer(*model, data, options, hooks);
  const TrainingResult result = trainer.run();
  REQUIRE(seen.size() == 2);
  CHECK(best.front());
  CHECK(seen[0].epoch == 0);
  CHECK(seen[1].step == (batches + 1) / 2);
  CHECK(seen[0].lr == 0.02);
  CHECK(seen[0].train_total_loss == doctest::Approx(seen[0].train_loss + seen[0].regularization_loss_core +
                                                    seen[0].regularization_loss_readout)
                                        .epsilon(1e-5));
  const std::string csv = read_file(folder.path("metrics.csv"));
  CHECK(csv == metrics_csv(seen));
  CHECK(csv.rfind(
            "epoch,step,lr,train_loss,train_total_loss,regularization_loss_core,regularization_loss_readout,"
            "train_evaluation_loss,val_loss,val_evaluation_loss,seconds\n0,",
            0) == 0);

  const std::string path = folder.path("model.safetensors");
  const LoadedModel loaded = load_model(path, placement);
  const Json provenance = Json::parse(loaded.provenance);
  CHECK(provenance["best_epoch"] == result.best.epoch);
  CHECK(provenance["seed"] == 11);
  CHECK(provenance["fovea"] == version());
  CHECK(provenance["data"]["format"] == "openretina_hdf5");
  CHECK(provenance["data_hash"] == data.content_hash);
  CHECK(provenance["split"]["c"]["validation_clips"].size() == 2);
  const auto normalization = normalization_of(loaded.provenance);
  REQUIRE(normalization);
  CHECK(normalization->mean == 0.1);
  CHECK(normalization->deviation == 1.5);
  CHECK_FALSE(normalization_of("{}").has_value());
  CHECK_THROWS_AS(normalization_of(R"({"normalization": {"mean": 0, "std": 0}})"), FormatError);

  const auto scores = evaluate_tests(*loaded.model, data, *normalization);
  REQUIRE(scores.size() == 2);
  CHECK(summarize(scores).neurons == 7);
  record_scores(path, scores);
  const LoadedModel scored = load_model(path, placement);
  CHECK(same_bits(*loaded.model, *scored.model));
  CHECK(Json::parse(scored.provenance)["scores"]["c"]["correlation"].size() == 4);
  CHECK(Json::parse(scored.provenance)["best_epoch"] == result.best.epoch);
}

TEST_CASE("a loss or gradient that is not finite ends training, names its place and keeps the files") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  TemporaryFolder folder;
  const auto model = tiny_model(placement);
  std::string before;
  TrainingHooks hooks;
  hooks.on_batch = [&](std::int64_t epoch, std::int64_t batch, std::int64_t, const StepLosses&) {
    if (epoch != 1 || batch != 1) return;
    before = read_file(checkpoint_path(folder.path()));
    named(*model, "core.features.layer1.norm.weight").data<float>()[1] =
        std::numeric_limits<float>::infinity();
  };
  Trainer trainer(*model, data, run_options(folder.path(), 3), hooks);
  const std::string message = message_of([&] { trainer.run(); });
  CHECK(contains(message, "epoch 1, step "));
  CHECK(contains(message, "session "));
  CHECK(contains(message, "core.features.layer1.norm.weight"));
  REQUIRE_FALSE(before.empty());
  CHECK(read_file(checkpoint_path(folder.path())) == before);
}

TEST_CASE("a bad gradient is found before it reaches a parameter") {
  const Placement placement = reference_f64();
  const auto model = tiny_model(placement, 0);
  ParameterArena arena(*model);
  const auto& parameter = arena.parameters()[1];
  const Tensor bad = Tensor::full(parameter.tensor.shape(), not_a_number, DType::f64, placement.device);
  backward(custom_op(
      "bad", {parameter.tensor}, [&](auto) { return Tensor::scalar(0, DType::f64, placement.device); },
      [&](const Tensor&, auto, const Tensor&) { return std::vector<Tensor>{bad}; }));
  const Tensor before = parameter.tensor.clone();
  CHECK_FALSE(std::isfinite(arena.step({}, {0.01, 1.0, {}})));
  CHECK(exact(before, parameter.tensor));
  CHECK(parameter.steps == 0);
  CHECK(arena.first_bad_gradient() == parameter.name);
}

TEST_CASE("what cannot be resumed or trained is refused") {
  const Placement placement{cpu_device(1), DType::f32};
  DataSet data = two_sessions();
  TemporaryFolder folder;
  const auto model = tiny_model(placement);
  Trainer(*model, data, run_options(folder.path(), 1)).run();
  const Checkpoint checkpoint = read_checkpoint(checkpoint_path(folder.path()), placement.device);
  const auto refused = [&](const RunOptions& options) {
    const auto fresh = make_model(checkpoint, placement);
    Trainer trainer(*fresh, data, options);
    return message_of([&] { trainer.resume(checkpoint); });
  };
  CHECK(refused(run_options(folder.path(), 1)) == "no error");
  RunOptions other = run_options(folder.path(), 1);
  other.seed = 12;
  CHECK(contains(refused(other), "seed 11, not 12"));
  other = run_options(folder.path(), 1);
  other.training.scheduler.reset();
  CHECK(contains(refused(other), "scheduler"));
  CHECK_THROWS_AS(make_model(checkpoint, {placement.device, DType::f64}), FormatError);
  CHECK_THROWS_AS(read_checkpoint(folder.path("model.safetensors"), placement.device), FormatError);
  data.content_hash = "another";
  CHECK(contains(refused(run_options(folder.path(), 1)), "data changed"));
  other = run_options(folder.path(), 1);
  other.training.freeze = {"cor"};
  const auto fresh = tiny_model(placement);
  CHECK(contains(message_of([&] { Trainer trainer(*fresh, data, other); }), "did you mean 'core'"));
}

TEST_CASE("run folders are new ones") {
  TemporaryFolder folder;
  const std::string first = create_run_folder(folder.path("runs"), "retina");
  const std::string second = create_run_folder(folder.path("runs"), "retina");
  CHECK(first != second);
  CHECK(std::filesystem::is_directory(second));
  CHECK(contains(first, "/runs/retina/20"));
}
