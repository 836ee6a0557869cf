// Options, schedule, parameter arena and single training steps.
#include "training_fixture.hpp"

using namespace training_test;

TEST_CASE("the learning rate schedule, early stopping and best epoch follow PyTorch and Lightning") {
  const nlohmann::json trace = load_json_fixture("plateau_trace");
  int epochs = 0;
  for (const auto& [name, run] : trace.at("runs").items()) {
    const std::string sequence = name;  // clang 14 captures no structured binding
    INFO("sequence ", sequence);
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
    const std::string& shown = name;
    if (name.rfind("core.", 0) == 0) CHECK_MESSAGE(same, shown);
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
