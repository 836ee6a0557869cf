// The training room: optimizer, schedule, steps, evaluation, checkpoints, resuming.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "check.hpp"
#include "fixture.hpp"
#include "fovea/autograd.hpp"
#include "fovea/core_readout.hpp"
#include "training/trainer.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A folder that goes when the test ends.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fovea-training-XXXXXX").string();
    if (!mkdtemp(name.data())) throw Error("test", "no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path(const std::string& name = "") const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// An in-memory array of f32 values that look random.
StoredArray stored(const std::vector<std::int64_t>& shape, unsigned seed, bool counts) {
  std::size_t size = 1;
  for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
  const auto values = std::make_shared<std::vector<float>>(size);
  std::uint32_t state = seed * 2654435761u + 12345u;
  for (float& value : *values) {
    state = state * 1664525u + 1013904223u;
    const float uniform = static_cast<float>(state >> 8) / 16777216.0f;
    value = counts ? std::floor(uniform * 3) : uniform * 4 - 2;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(values->data());
  return {"test", ElementType::float32, shape, bytes, values};
}

/// Two sessions of different length, with a repeated test movie in the second.
DataSet two_sessions() {
  DataSet data;
  const std::vector<std::pair<std::string, std::int64_t>> keys{{"a.1-b", 3}, {"c", 4}};
  unsigned seed = 1;
  for (const auto& [key, neurons] : keys) {
    Session session;
    session.key = key;
    session.neurons = neurons;
    const std::int64_t frames = key == "c" ? 160 : 240;
    session.stimulus = TimeSeries({stored({1, frames, 6, 7}, ++seed, false)});
    session.responses = TimeSeries({stored({neurons, frames}, ++seed, true)});
    session.mean_activity = session.responses.channel_means();
    TestMovie test;
    test.name = "test";
    test.stimulus = TimeSeries({stored({1, 90, 6, 7}, ++seed, false)});
    test.responses = TimeSeries({stored({neurons, 90}, ++seed, true)});
    if (key == "c") test.responses_by_trial = stored({3, neurons, 90}, ++seed, true);
    session.tests.push_back(test);
    data.sessions.push_back(session);
  }
  data.normalization = Normalization{0.1, 1.5};
  data.channels = 1;
  data.height = 6;
  data.width = 7;
  data.content_hash = "0123456789abcdef";
  return data;
}

DataOptions data_options() {
  DataOptions options;
  options.path = "memory";
  options.test_names = {"test"};
  options.batch_size = 2;
  options.train_chunk_size = 16;
  options.clip_length = 20;
  options.num_val_clips = 2;
  return options;
}

std::unique_ptr<Model> tiny_model(const Placement& placement, double dropout = 0.2) {
  CoreReadoutOptions options;
  options.in_shape = {1, 16, 6, 7};
  options.hidden_channels = {3, 4};
  options.temporal_kernel_sizes = {6, 3};
  options.spatial_kernel_sizes = {3, 3};
  options.core_gamma_input = 0.1;
  options.core_gamma_temporal = 0.5;
  options.dropout_rate = dropout;
  options.learning_rate = 0.02;
  return make_core_readout(options, {{"a.1-b", 3, {}}, {"c", 4, {}}}, placement, 5);
}

Placement reference_f64() { return {cpu_device(1, Isa::reference), DType::f64}; }

Tensor pseudo_random(const Shape& shape, const Placement& placement, unsigned seed, bool counts = false) {
  return stored(shape.vector(), seed, counts).to_tensor(placement.dtype, placement.device);
}

struct Sample {
  ModelInput input;
  Tensor responses;
};

Sample sample(const std::string& session, const Placement& placement, unsigned seed = 3) {
  return {{session, pseudo_random({2, 16, 6, 7, 1}, placement, seed), {}, {}},
          pseudo_random({2, 16, session == "c" ? 4 : 3}, placement, seed + 1, true)};
}

std::vector<std::pair<std::string, Tensor>> copies(const Model& model) {
  std::vector<std::pair<std::string, Tensor>> result;
  for (const NamedTensor& one : model.tensors()) result.emplace_back(one.name, one.tensor.clone());
  return result;
}

Tensor named(const Model& model, const std::string& name) {
  for (const NamedTensor& one : model.tensors())
    if (one.name == name) return one.tensor;
  throw Error("test", text("there is no tensor ", name));
}

bool same_bits(const Model& a, const Model& b) {
  const auto left = a.tensors(), right = b.tensors();
  if (left.size() != right.size() || left.empty()) return false;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (!exact(left[i].tensor, right[i].tensor)) return false;
  return true;
}

RunOptions run_options(const std::string& folder, std::int64_t epochs) {
  RunOptions options;
  options.folder = folder;
  options.training.max_epochs = epochs;
  options.data = data_options();
  options.seed = 11;
  options.version = "test";
  options.training.accumulate_grad_batches = 2;
  options.training.gradient_clip = 50.0;
  return options;
}

std::string message_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the learning rate schedule, early stopping and best epoch follow PyTorch and Lightning") {
  const nlohmann::json trace = load_json_fixture("plateau_trace");
  int epochs = 0;
  for (const auto& [name, run] : trace.at("runs").items()) {
    INFO("sequence ", name);
    ReduceLROnPlateau scheduler(SchedulerOptions{}, run.at("lr").get<double>());
    EarlyStopping stopping{EarlyStoppingOptions{}};
    BestEpoch best;
    std::int64_t epoch = 0;
    for (const auto& row : run.at("epochs")) {
      const double metric = row.at("metric").is_null() ? not_a_number : row.at("metric").get<double>();
      best.step(epoch++, metric);
      const bool stop = stopping.step(metric);
      CHECK(scheduler.step(metric) == row.at("lr").get<double>());
      CHECK(scheduler.state().bad_epochs == row.at("bad_epochs").get<std::int64_t>());
      CHECK(stopping.state().wait_count == row.at("wait_count").get<std::int64_t>());
      CHECK(stop == row.at("stop").get<bool>());
      CHECK(best.epoch == (row.at("best_epoch").is_null() ? -1 : row.at("best_epoch").get<std::int64_t>()));
      ++epochs;
    }
  }
  CHECK(epochs > 100);
}

TEST_CASE("smaller can be better, and thresholds relative") {
  SchedulerOptions options;
  options.mode = "min";
  options.threshold_mode = "rel";
  options.threshold = 0.1;
  options.patience = 0;
  ReduceLROnPlateau scheduler(options, 1.0);
  CHECK(scheduler.step(10.0) == 1.0);
  CHECK(scheduler.step(8.9) == 1.0);  // below 9
  CHECK(scheduler.step(8.1) == 0.3);  // not below 8.01
  EarlyStoppingOptions patience_one;
  patience_one.mode = "min";
  patience_one.patience = 1;
  patience_one.min_delta = 0.5;
  EarlyStopping stopping(patience_one);
  CHECK_FALSE(stopping.step(10.0));
  CHECK_FALSE(stopping.step(9.4));
  CHECK(stopping.step(9.0));
}

TEST_CASE("training options: defaults, every key, errors that name the nearest one") {
  const TrainingOptions defaults = parse_training_options(Json());
  CHECK(defaults.max_epochs == 100);
  CHECK_FALSE(defaults.gradient_clip.has_value());
  CHECK(defaults.scheduler->threshold == 5e-4);
  CHECK(defaults.early_stopping->min_delta == 1e-3);
  const Json section = Json::parse(R"({"max_epochs": 7, "gradient_clip": 1.5, "accumulate_grad_batches": 2,
    "optimizer": {"class": "AdamW", "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0},
    "scheduler": {"monitor": "val_loss", "mode": "min", "factor": 0.5, "patience": 2, "threshold": 0.1,
                  "threshold_mode": "rel", "min_lr": 0.001},
    "freeze": ["core"], "early_stopping": null})");
  const TrainingOptions options = parse_training_options(section);
  CHECK(*options.gradient_clip == 1.5);
  CHECK(options.optimizer.betas == std::array<double, 2>{0.8, 0.99});
  CHECK(*options.scheduler->min_lr == 0.001);
  CHECK_FALSE(options.early_stopping.has_value());
  CHECK(write_training_options(parse_training_options(write_training_options(options))) ==
        write_training_options(options));

  const auto refused = [](const char* json) {
    return message_of([&] { parse_training_options(Json::parse(json)); });
  };
  CHECK(contains(refused(R"({"max_epoch": 3})"), "did you mean 'max_epochs'"));
  CHECK(contains(refused(R"({"max_epochs": 0})"), "at least 1"));
  CHECK(contains(refused(R"({"max_epochs": "3"})"), "whole number"));
  CHECK(contains(refused(R"({"gradient_clip": 0})"), "above 0"));
  CHECK(contains(refused(R"({"optimizer": {"class": "SGD"}})"), "'AdamW'"));
  CHECK(contains(refused(R"({"optimizer": {"beta": [0.9, 0.9]}})"), "did you mean 'betas'"));
  CHECK(contains(refused(R"({"optimizer": {"betas": [0.9, 1.0]}})"), "below 1"));
  CHECK(contains(refused(R"({"scheduler": {"mode": "maximum"}})"), "'max'"));
  CHECK(contains(refused(R"({"scheduler": {"monitor": "val_los"}})"), "'val_loss'"));
  CHECK(contains(refused(R"({"early_stopping": {"patience": 0}})"), "at least 1"));
  CHECK(contains(refused(R"([1])"), "map"));
}

TEST_CASE("the arena keeps values, aligns every parameter and knows its segments") {
  const Placement placement = reference_f64();
  const auto model = tiny_model(placement);
  const auto before = copies(*model);
  const ParameterArena arena(*model);
  for (const auto& [name, tensor] : before) CHECK(exact(tensor, named(*model, name)));
  std::size_t learnable = 0;
  for (const NamedTensor& one : model->tensors()) learnable += one.role == Role::parameter;
  REQUIRE(arena.parameters().size() == learnable);
  const auto* base = static_cast<const std::byte*>(arena.values().raw());
  for (const auto& parameter : arena.parameters()) {
    const auto* at = static_cast<const std::byte*>(parameter.tensor.raw());
    CHECK(at == base + parameter.begin * 8);
    CHECK(reinterpret_cast<std::uintptr_t>(at) % 64 == 0);
    const std::string expected = parameter.name[0] == 'c'            ? "core"
                                 : contains(parameter.name, "a.1-b") ? "readout.a.1-b"
                                                                     : "readout.c";
    CHECK(parameter.segment == expected);
  }
}

TEST_CASE("AdamW through the arena follows PyTorch") {
  const Placement placement = reference_f64();
  const Safetensors trace = load_fixture("adamw_trace", placement.device);
  const auto runs = nlohmann::json::parse(trace.metadata.at("runs"));
  REQUIRE(runs.size() == 3);
  for (std::size_t run = 0; run < runs.size(); ++run) {
    CAPTURE(run);
    const auto& row = runs[run];
    const auto of = [&](const char* name) { return tensor_of(trace, text("run", run, '.', name)); };
    OptimizerOptions optimizer;
    optimizer.betas = {row.at("betas")[0].get<double>(), row.at("betas")[1].get<double>()};
    optimizer.eps = row.at("eps").get<double>();
    optimizer.weight_decay = row.at("weight_decay").get<double>();
    const auto model = tiny_model(placement);
    ParameterArena arena(*model);
    // A parameter of at least 15 values carries the trace; its first 15 entries are compared.
    const auto& carrier = *std::find_if(arena.parameters().begin(), arena.parameters().end(),
                                        [](const auto& p) { return p.count >= 15; });
    const Tensor values = arena.values().rows(carrier.begin, carrier.begin + 15);
    const Tensor gradient = arena.gradient(carrier);
    values.copy_from(of("start").reshape({15}));
    for (std::int64_t i = 0; i < 20; ++i) {
      arena.clear_gradients();
      // Reached by way of a backward pass: d sum(w * g) / d w = g.
      const Tensor weights = zeros_like(carrier.tensor);
      const Tensor given = of("gradients").rows(i, i + 1);
      std::copy_n(given.data<double>(), 15, weights.data<double>());
      backward(custom_op(
          "dot", {carrier.tensor}, [&](auto) { return Tensor::scalar(0, DType::f64, placement.device); },
          [&](const Tensor&, auto, const Tensor&) { return std::vector<Tensor>{weights}; }));
      CHECK(exact(weights, gradient));
      arena.step(optimizer, {row.at(i < 10 ? "lr" : "lr_after_10").get<double>(), 1.0, {}});
      CHECK(relative_l2(of("after").rows(i, i + 1).reshape({15}), values, 1e-13));
    }
    CHECK(relative_l2(of("exp_avg").reshape({15}),
                      arena.exp_avg(carrier).reshape({carrier.count}).rows(0, 15), 1e-13));
    CHECK(relative_l2(of("exp_avg_sq").reshape({15}),
                      arena.exp_avg_sq(carrier).reshape({carrier.count}).rows(0, 15), 1e-13));
    for (const auto& parameter : arena.parameters())
      CHECK(parameter.steps == (parameter.name == carrier.name ? 20 : 0));
  }
}

TEST_CASE("a step skips whole what the batch does not reach") {
  const Placement placement = reference_f64();
  const auto model = tiny_model(placement, 0);
  const auto before = copies(*model);
  TrainingStep step(*model, {});
  const Sample one = sample("c", placement);
  const StepLosses losses = step.run(one.input, one.responses, {0.01, nullptr, false});
  CHECK(losses.updated);
  CHECK(losses.total == doctest::Approx(losses.loss + losses.core_regularizer + losses.readout_regularizer));
  CHECK(losses.core_regularizer > 0);
  for (const auto& parameter : step.arena().parameters()) {
    const bool reached = parameter.segment != "readout.a.1-b";
    CHECK(parameter.steps == (reached ? 1 : 0));
    const auto start =
        std::find_if(before.begin(), before.end(), [&](const auto& b) { return b.first == parameter.name; });
    CHECK_MESSAGE(static_cast<bool>(exact(start->second, parameter.tensor)) == !reached, parameter.name);
  }
}

TEST_CASE("clipping scales the whole gradient to the norm that is asked for") {
  const Placement placement = reference_f64();
  const Sample one = sample("c", placement);
  const auto run = [&](std::optional<double> clip, const auto& inspect) {
    const auto model = tiny_model(placement, 0);
    TrainingOptions options;
    options.gradient_clip = clip;
    options.optimizer.betas = {0.0, 0.0};
    TrainingStep step(*model, options);
    const StepLosses losses = step.run(one.input, one.responses, {0.01, nullptr, false});
    inspect(step.arena(), losses.gradient_norm);
  };
  double squares = 0, norm = 0;
  std::vector<double> plain;
  run({}, [&](const ParameterArena& arena, double reported) {
    norm = reported;
    for (const auto& parameter : arena.parameters()) {
      if (!parameter.tensor.grad()) continue;
      for (const double g : arena.gradient(parameter).to_vector<double>()) squares += g * g;
      for (const double m : arena.exp_avg(parameter).to_vector<double>()) plain.push_back(m);
    }
  });
  CHECK(norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
  REQUIRE(norm > 1);
  // With beta1 = 0 the first moment is the gradient that AdamW saw.
  for (const double clip : {0.5, norm * 2}) {
    run(clip, [&](const ParameterArena& arena, double) {
      const double scale = std::min(1.0, clip / (norm + 1e-6));
      std::size_t i = 0;
      for (const auto& parameter : arena.parameters()) {
        if (!parameter.tensor.grad()) continue;
        for (const double m : arena.exp_avg(parameter).to_vector<double>()) {
          CHECK(m == doctest::Approx(plain[i] * scale).epsilon(1e-12));
          ++i;
        }
      }
      CHECK(i == plain.size());
    });
  }
}

TEST_CASE("accumulated batches make one step on the mean gradient") {
  const Placement placement = reference_f64();
  const Sample first = sample("c", placement, 3), second = sample("a.1-b", placement, 9);
  TrainingOptions options;
  options.optimizer.betas = {0.0, 0.0};
  const auto gradient_of = [&](const Sample& one) {
    const auto model = tiny_model(placement, 0);
    TrainingStep step(*model, options);
    step.run(one.input, one.responses, {0.01, nullptr, false});
    const auto& parameter = step.arena().parameters().front();
    return step.arena().exp_avg(parameter).to_vector<double>();
  };
  const auto a = gradient_of(first), b = gradient_of(second);
  options.accumulate_grad_batches = 2;
  const auto model = tiny_model(placement, 0);
  const auto before = copies(*model);
  TrainingStep step(*model, options);
  CHECK_FALSE(step.run(first.input, first.responses, {0.01, nullptr, false}).updated);
  CHECK(step.accumulating());
  CHECK(exact(before.front().second, named(*model, before.front().first)));
  CHECK(step.run(second.input, second.responses, {0.01, nullptr, false}).updated);
  CHECK_FALSE(step.accumulating());
  const auto mean = step.arena().exp_avg(step.arena().parameters().front()).to_vector<double>();
  REQUIRE(mean.size() == a.size());
  for (std::size_t i = 0; i < mean.size(); ++i)
    CHECK(std::abs(mean[i] - (a[i] + b[i]) / 2) <= 1e-12 * (std::abs(a[i]) + std::abs(b[i])));
  for (const auto& parameter : step.arena().parameters()) CHECK(parameter.steps == 1);
  // The last batch of an epoch does not wait.
  CHECK(step.run(first.input, first.responses, {0.01, nullptr, true}).updated);
}

TEST_CASE("frozen parameters and statistics stay as they are") {
  const Placement placement = reference_f64();
  const auto model = tiny_model(placement, 0);
  REQUIRE(model->freeze("core"));
  const auto before = copies(*model);
  TrainingStep step(*model, {});
  const Sample one = sample("c", placement);
  step.run(one.input, one.responses, {0.01, nullptr, false});
  for (const auto& parameter : step.arena().parameters()) CHECK(parameter.segment != "core");
  int moved = 0;
  for (const auto& [name, tensor] : before) {
    const bool same = static_cast<bool>(exact(tensor, named(*model, name)));
    if (name.rfind("core.", 0) == 0) CHECK_MESSAGE(same, name);
    moved += !same;
  }
  CHECK(moved > 0);
  REQUIRE(model->freeze("readout"));
  CHECK(contains(message_of([&] { ParameterArena nothing(*model); }), "frozen"));
}

TEST_CASE("the steady state allocates no tensor memory") {
  const Placement placement{cpu_device(2), DType::f32};
  const auto model = tiny_model(placement);
  TrainingOptions options;
  options.accumulate_grad_batches = 2;
  options.gradient_clip = 1.0;
  TrainingStep step(*model, options);
  const Sample a = sample("a.1-b", placement), c = sample("c", placement);
  const auto round = [&] {
    for (const Sample* one : {&a, &c, &c, &a}) {
      Random random(1, 2, 3);
      step.run(one->input, one->responses, {0.01, &random, false});
    }
  };
  // Every signature is recorded, then laid out.
  round();
  round();
  const std::uint64_t before = placement.device.memory().allocations;
  for (int i = 0; i < 5; ++i) round();
  CHECK(placement.device.memory().allocations == before);
}

TEST_CASE("validation follows openretina's weighting and allocates nothing the second time") {
  const Placement placement = reference_f64();
  const DataSet data = two_sessions();
  const auto model = tiny_model(placement, 0);
  DataOptions options = data_options();
  options.num_val_clips = 3;
  ValidationClips clips(data, options, placement.dtype, placement.device);
  StepMemory memory(placement.device);
  const auto scores = validate(*model, clips, memory);
  REQUIRE(scores);
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
  CHECK(scores->loss == doctest::Approx(loss / samples).epsilon(1e-12));
  CHECK(scores->metric == doctest::Approx(metric / samples).epsilon(1e-12));
  validate(*model, clips, memory);
  const std::uint64_t before = placement.device.memory().allocations;
  const auto again = validate(*model, clips, memory);
  CHECK(placement.device.memory().allocations == before);
  CHECK(again->loss == scores->loss);
  const std::atomic<bool> stop{true};
  CHECK_FALSE(validate(*model, clips, memory, &stop).has_value());
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

TEST_CASE("training gives the same bits for any number of threads, and other bits for another seed") {
  const DataSet data = two_sessions();
  const auto train = [&](int threads, std::uint64_t seed) {
    TemporaryFolder folder;
    const Placement placement{cpu_device(threads), DType::f32};
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
  const std::string one = train(1, 11);
  for (const int threads : {2, 3, 7}) CHECK(train(threads, 11) == one);
  CHECK(train(1, 12) != one);
}

TEST_CASE("the run folder: metrics, best model with its provenance, checkpoint") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  TemporaryFolder folder;
  const auto model = tiny_model(placement);
  RunOptions options = run_options(folder.path(), 2);
  options.data_description = R"({"format": "openretina_hdf5"})";
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
  CHECK(provenance["fovea"] == "test");
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
