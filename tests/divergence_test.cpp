// What is not finite ends training where it is found, is named, and never gets into a file; what constraints
// change is changed once.
#include "disguised_model.hpp"
#include "training_fixture.hpp"

using namespace training_test;

namespace {

/// A training that fails: the message must name the place, and the checkpoint must hold finite values.
struct Diverging {
  TemporaryFolder folder;
  DataSet data = two_sessions();
  Disguised model{tiny_model({cpu_device(1), DType::f32})};
  RunOptions options = run_options(folder.path(), 3);
  TrainingHooks hooks;
  std::atomic<bool> stop{false};

  std::string path(const std::string& name) const { return folder.path(name); }
  /// The message.
  std::string run() {
    Trainer trainer(model, data, options, hooks);
    const std::string message = message_of([&] { trainer.run(&stop); });
    const Checkpoint checkpoint = read_checkpoint(checkpoint_path(folder.path()), cpu_device(1));
    for (const auto& [name, tensor] : checkpoint.content.tensors)
      if (tensor.dtype() != DType::i64)
        for (const float value : tensor.to_vector<float>()) REQUIRE(std::isfinite(value));
    return message;
  }
};

void check_parts(const std::string& message, const std::vector<std::string>& parts) {
  CAPTURE(message);
  for (const std::string& part : parts) CHECK(contains(message, part));
}

void spoil(const Tensor& tensor) { tensor.data<float>()[0] = std::numeric_limits<float>::infinity(); }

/// 0 with this gradient for a parameter.
Tensor with_gradient(const Tensor& parameter, double gradient) {
  return custom_op(
      "steep", {parameter}, [](auto inputs) { return Tensor::scalar(0, DType::f32, inputs[0].device()); },
      [gradient](const Tensor&, auto inputs, const Tensor&) {
        return std::vector<Tensor>{Tensor::full(inputs[0].shape(), gradient, DType::f32, inputs[0].device())};
      });
}

}  // namespace

TEST_CASE("a bad gradient is found in its own batch of an accumulation, where the loss is finite") {
  Diverging training;
  std::string session;
  std::int64_t batches = 0, finished = 0;
  training.model.constrain = [&](const std::string& key) { session = key; };
  training.model.regularize = [&]() -> Tensor {
    if (batches++ != 2) return {};  // the first of two
    return with_gradient(named(training.model, "core.features.layer1.norm.weight"), not_a_number);
  };
  training.hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses&) { ++finished; };
  const std::string message = training.run();
  check_parts(message, {"epoch 0, step 1, session " + session + ":", "a gradient is not finite",
                        "first in grad.core.features.layer1.norm.weight"});
  CHECK(finished == 2);
}

TEST_CASE("a regularizer that overflows is named") {
  Diverging training;
  std::int64_t batches = 0;
  training.model.regularize = [&]() -> Tensor {
    const double value = batches++ == 3 ? std::numeric_limits<double>::infinity() : 0.0;
    return Tensor::scalar(value, DType::f32, training.model.placement().device);
  };
  check_parts(training.run(),
              {"epoch 0, step 1, session ", "the loss is not finite: inf", "first in core_regularizer"});
}

TEST_CASE("parameters that the last step of an epoch spoils are not saved") {
  Diverging training;
  training.options.training.accumulate_grad_batches = 1000;  // one step an epoch
  const std::string name = "core.features.layer0.norm.bias";
  std::int64_t steps = 0;
  std::string before;
  training.hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses& losses) {
    steps += losses.updated;
    if (steps < 2) return;
    before = read_file(checkpoint_path(training.path("")));
    spoil(named(training.model, name));
  };
  check_parts(training.run(), {"epoch 1, step 2, session ", "first in " + name});
  CHECK(before == read_file(checkpoint_path(training.path(""))));
  CHECK_FALSE(contains(read_file(training.path("metrics.csv")), "\n1,"));
}

TEST_CASE("statistics and moments that stop being finite are not saved, also by an interrupted run") {
  for (const bool interrupted : {false, true})
    for (const bool moment : {false, true}) {
      CAPTURE(interrupted);
      CAPTURE(moment);
      Diverging training;
      const std::string name =
          moment ? "core.features.layer0.norm.weight" : "core.features.layer1.norm.running_var";
      std::int64_t batches = 0;
      training.options.training.gradient_clip.reset();
      training.model.regularize = [&]() -> Tensor {
        if (!moment || batches != 4) return {};
        return with_gradient(named(training.model, name), 1e30);  // only its square overflows
      };
      training.hooks.on_batch = [&](std::int64_t, std::int64_t, std::int64_t, const StepLosses&) {
        if (++batches != 6) return;
        if (!moment) spoil(named(training.model, name));
        training.stop = interrupted;
      };
      check_parts(training.run(),
                  {"epoch 0, step ", "session ", "first in " + (moment ? "exp_avg_sq." + name : name)});
      CHECK_FALSE(std::filesystem::exists(training.path("model.safetensors")));
    }
}

TEST_CASE("a model with a value that is not finite is not trained") {
  Diverging training;
  spoil(named(training.model, "core.features.layer0.norm.bias"));
  const std::string message =
      message_of([&] { Trainer trainer(training.model, training.data, training.options); });
  CHECK(contains(message, "not finite, first in core.features.layer0.norm.bias"));
  CHECK(std::filesystem::is_empty(training.folder.path()));
}

TEST_CASE("constraints that change something at every pass act equally often in a resumed run") {
  const Placement placement{cpu_device(1), DType::f32};
  const DataSet data = two_sessions();
  const auto disguised = [](std::unique_ptr<Model> inner) {
    auto model = std::make_unique<Disguised>(std::move(inner));
    const Tensor weight = named(*model, "core.features.layer0.norm.weight");
    model->constrain = [weight](const std::string&) {
      for (std::int64_t i = 0; i < weight.elements(); ++i) weight.data<float>()[i] *= 0.999f;
    };
    return model;
  };
  TemporaryFolder whole_folder, cut_folder;
  const auto whole = disguised(tiny_model(placement));
  Trainer(*whole, data, run_options(whole_folder.path(), 2)).run();
  std::unique_ptr<Disguised> model = disguised(tiny_model(placement));
  int validations = 0;
  for (bool resumed = false;; resumed = true) {
    std::optional<Checkpoint> checkpoint;
    if (resumed) {
      checkpoint = read_checkpoint(checkpoint_path(cut_folder.path()), placement.device);
      model = disguised(make_model(*checkpoint, placement));
    }
    std::atomic<bool> stop{false};
    bool validating = false;
    TrainingHooks hooks;
    hooks.on_batch = [&](std::int64_t, std::int64_t done, std::int64_t all, const StepLosses&) {
      validating = done == all;
    };
    model->constrain = [&, constrain = model->constrain](const std::string& session) {
      if (validating && !stop.exchange(true)) ++validations;
      constrain(session);
    };
    Trainer trainer(*model, data, run_options(cut_folder.path(), 2), hooks);
    if (checkpoint) trainer.resume(*checkpoint);
    if (trainer.run(&stop).end != TrainingEnd::interrupted) break;
    REQUIRE(validations < 3);
  }
  CHECK(validations == 2);
  CHECK(same_bits(*whole, *model));
  CHECK(read_file(whole_folder.path("model.safetensors")) == read_file(cut_folder.path("model.safetensors")));
}
