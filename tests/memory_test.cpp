// The estimate of what training takes beside what it took, and what the system is said to have.
#include <sys/resource.h>

#include "engine/bounded_memory.hpp"
#include "engine/sanitized.hpp"
#include "engine/system_memory.hpp"
#include "training/memory_estimate.hpp"
#include "training/train_step.hpp"
#include "training_fixture.hpp"

using namespace training_test;

namespace {

constexpr std::size_t no_bound = std::numeric_limits<std::size_t>::max();

/// Most tensor memory that a run held on a device of its own; the copy of the best epoch that `train` keeps
/// is small beside it.
std::size_t measured(const CoreReadoutOptions& architecture, const DataSet& data, const RunOptions& options) {
  const Device device = cpu_device(2);
  const auto model = make_core_readout(architecture, data.session_options(), {device, DType::f32}, 5);
  train(*model, data, options);
  return device.memory().bytes_at_peak;
}

CoreReadoutOptions architecture() {
  CoreReadoutOptions options;
  options.in_shape = {1, 16, 6, 7};
  options.hidden_channels = {12, 20};
  options.temporal_kernel_sizes = {6, 3};
  options.spatial_kernel_sizes = {3, 3};
  return options;
}

RunOptions two_epochs() {
  RunOptions options;
  options.training.max_epochs = 2;
  options.data = data_options();
  options.seed = 11;
  return options;
}

}  // namespace

TEST_CASE("the estimated memory of training is what training holds, within a tenth") {
  const DataSet data = two_sessions();
  for (const std::int64_t batch : {1, 2, 5, 8})
    for (const char* type : {"custom_separable", "separable", "full"})
      for (const bool dropout : {false, true}) {
        CAPTURE(batch);
        CAPTURE(std::string(type));
        CAPTURE(dropout);
        CoreReadoutOptions core = architecture();
        core.convolution_type = type;
        if (core.convolution_type != "custom_separable") core.core_gamma_temporal = 0;
        core.dropout_rate = dropout ? 0.2 : 0;
        RunOptions options = two_epochs();
        options.data.batch_size = batch;
        const auto model = make_core_readout(core, data.session_options(), {cpu_device(2), DType::f32}, 5);
        const auto estimate = estimate_training_memory(*model, options.training, options.data, no_bound);
        REQUIRE(estimate);
        CHECK(estimate->step > 0);
        CHECK(estimate->validation > 0);
        const double expected = static_cast<double>(measured(core, data, options));
        CHECK(static_cast<double>(estimate->peak()) == doctest::Approx(expected).epsilon(0.1));
      }
}

TEST_CASE("the estimated memory of training on images is what training holds, within a tenth") {
  DataSet data = two_sessions();
  data.sessions.resize(1);
  const Json klindt = Json::parse(R"({"class": "KlindtCoreReadout2D", "image_size": [6, 7],
    "kernel_sizes": [3, 2], "num_kernels": [12, 20], "act_fns": ["relu", "softplus"], "reg": [1e-3, 1e-3, 1e-3, 0.2],
    "init_scales": [[0, 0.2], [0.1, 0.1], [0.1, 0.1]], "weights_constraint": "abs", "mask_constraint": "abs"})");
  const Json encoder = Json::parse(R"({"class": "FiringRateEncoder",
    "core": {"class": "Stacked2dCore", "hidden_channels": 12, "input_kern": 3, "hidden_kern": 3, "layers": 2},
    "readout": {"class": "FullGaussian2d", "bias": true}})");
  const auto section_of = [&](bool is_klindt, std::int64_t k) {
    Json section = is_klindt ? klindt : encoder;
    section["sessions"] = {{"a.1-b", {{"n_neurons", 3}}}};
    if (is_klindt) {
      section["image_channels"] = k;
    } else {
      section["in_shape"] = {k, 6, 7};
      section["core"]["input_channels"] = k;
    }
    return section.dump();
  };
  for (const bool is_klindt : {true, false})
    for (const std::int64_t batch : {1, 2, 5, 8})
      for (const std::int64_t k : {1, 3}) {
        CAPTURE(is_klindt);
        CAPTURE(batch);
        CAPTURE(k);
        const std::string section = section_of(is_klindt, k);
        RunOptions options = two_epochs();
        options.data.batch_size = batch;
        options.data.frames_per_image = k;
        const auto fresh = make_model(section, {cpu_device(2), DType::f32}, 5);
        const auto estimate = estimate_training_memory(*fresh, options.training, options.data, no_bound);
        REQUIRE(estimate);
        const Device counting = cpu_device(2);
        const auto model = make_model(section, {counting, DType::f32}, 5);
        train(*model, data, options);
        const double expected = static_cast<double>(counting.memory().bytes_at_peak);
        CHECK(static_cast<double>(estimate->peak()) == doctest::Approx(expected).epsilon(0.1));
      }
}

TEST_CASE("the memory of a step with a shifter is measured with pupil centres") {
  const auto model = make_model(R"({"class": "FiringRateEncoder", "in_shape": [1, 6, 7],
    "core": {"class": "Stacked2dCore", "input_channels": 1, "hidden_channels": 4, "input_kern": 3, "hidden_kern": 3},
    "readout": {"class": "FullGaussian2d", "bias": true}, "shifter": {"class": "MLPShifter", "input_channels": 3},
    "sessions": {"s": {"n_neurons": 3}}})",
                                {cpu_device(1), DType::f32});
  REQUIRE(model->pupil_columns() == 3);
  const auto estimate = estimate_training_memory(*model, {}, data_options(), no_bound);
  REQUIRE(estimate);
  CHECK(estimate->step > 0);
  CHECK(estimate->validation > 0);
}

TEST_CASE("a loss that overflows on ones is estimated like any other") {
  RunOptions options = two_epochs();
  CoreReadoutOptions core = architecture();
  const auto model = [&](double activity, const Json& loss) {
    const std::vector<SessionOptions> sessions{{"s", 3, std::vector<double>(3, activity)}};
    Json section = Json::parse(make_core_readout(core, sessions, {cpu_device(1), DType::f32}, 5)->config());
    section["loss"] = loss;
    return make_model(section.dump(), {cpu_device(1), DType::f32}, 5);
  };
  const Json exponential{{"class", "PoissonNLLLoss"}, {"log_input", true}};
  const auto loud = model(1e4, exponential), quiet = model(0.1, exponential);
  {
    TrainingStep step(*loud, options.training);  // overflows indeed
    const Tensor ones = Tensor::full({1, 16, 6, 7, 1}, 1.0, DType::f32, loud->placement().device);
    const Tensor responses = Tensor::full({1, 16, 3}, 1.0, DType::f32, loud->placement().device);
    CHECK_THROWS_AS(step.run({"s", ones, {}, {}}, responses, {}), NonFiniteError);
  }
  const auto of = [&](const Model& one) {
    return estimate_training_memory(one, options.training, options.data, no_bound);
  };
  REQUIRE(of(*loud));
  CHECK(of(*loud)->step == of(*quiet)->step);
  CHECK(of(*loud)->validation == of(*quiet)->validation);
  CHECK(of(*loud)->peak() == of(*quiet)->peak());
  options.training.gradient_clip = 1.0;
  CHECK(of(*loud)->peak() == of(*quiet)->peak());
  CHECK_NOTHROW(check_training_memory(*loud, options.training, options.data));
}

TEST_CASE("more than eight samples are carried on from four and eight") {
  const DataSet data = two_sessions();
  RunOptions options = two_epochs();
  const auto step_of = [&](std::int64_t batch) {
    const auto model =
        make_core_readout(architecture(), data.session_options(), {cpu_device(2), DType::f32}, 5);
    options.data.batch_size = batch;
    return static_cast<double>(
        estimate_training_memory(*model, options.training, options.data, no_bound)->training_step());
  };
  const double four = step_of(4), eight = step_of(8), hundred = step_of(100);
  CHECK(hundred == doctest::Approx(eight + 23 * (eight - four)).epsilon(0.01));
}

TEST_CASE("an estimate has a bound of its own") {
  const DataSet data = two_sessions();
  const RunOptions options = two_epochs();
  const auto model =
      make_core_readout(architecture(), data.session_options(), {cpu_device(1), DType::f32}, 5);
  CHECK_FALSE(estimate_training_memory(*model, options.training, options.data, 10000));
}

TEST_CASE("training that needs more than there is names both figures") {
  const DataSet data = two_sessions();
  RunOptions options = two_epochs();
  options.data.batch_size = 100'000'000;
  const auto model =
      make_core_readout(architecture(), data.session_options(), {cpu_device(1), DType::f32}, 5);
  const std::string message =
      message_of([&] { check_training_memory(*model, options.training, options.data); });
  CAPTURE(message);
  CHECK(contains(message, "[memory] training with batches of 100000000"));
  CHECK(contains(message, " MB (a step "));
  CHECK(contains(message, " MB: parameters, gradients and moments "));
  CHECK(contains(message, " MB, batch "));
  CHECK(contains(message, " MB, activations and workspace "));
  CHECK(contains(message, " MB), the machine has "));
  options.data.batch_size = 2;
  CHECK_NOTHROW(check_training_memory(*model, options.training, options.data));
}

TEST_CASE("training that needs more than its device has is refused with the figures of its plan") {
  const DataSet data = two_sessions();
  const RunOptions options = two_epochs();
  std::vector<Device> devices{cpu_device(1)};
#if FOVEA_EMULATOR
  devices.push_back(emulator_device(1));
#endif
  for (const Device& device : devices) {
    CAPTURE(to_string(device.kind()));
    const auto model_on = [&](std::size_t bytes) {
      bound_memory(device, bytes);
      return make_core_readout(architecture(), data.session_options(), {device, DType::f32}, 5);
    };
    const auto free = model_on(no_bound);
    const auto needed = estimate_training_memory(*free, options.training, options.data, no_bound);
    REQUIRE(needed);
    const std::size_t parameters = device.memory().bytes_in_use;
    CHECK(parameters > 0);
    const auto message = [&](std::size_t left) {
      const auto model = model_on(parameters + left);
      CHECK(device.backend().memory->available() == left);
      return message_of([&] { check_training_memory(*model, options.training, options.data); });
    };
    CHECK(message(needed->peak()) == "no error");
    const std::string refused = message(needed->peak() - 1);
    CAPTURE(refused);
    CHECK(contains(refused, "[memory] training with batches of "));
    CHECK(contains(refused, " needs "));
    CHECK(contains(refused, " MB: parameters, gradients and moments "));
    CHECK(contains(refused, " MB, batch "));
    CHECK(contains(refused, " MB, activations and workspace "));
    CHECK(contains(message(needed->model), " needs more, the machine has "));
  }
}

TEST_CASE("once planned, steps touch no fresh pages") {
  if (sanitized) return;  // its allocator keeps what is released for a while
  const Device device = cpu_device(2);
  CoreReadoutOptions core = architecture();
  core.in_shape = {1, 60, 20, 20};
  const auto model = make_core_readout(core, two_sessions().session_options(), {device, DType::f32}, 5);
  const std::string session = two_sessions().session_options()[0].key;
  const Tensor stimulus({8, 60, 20, 20, 1}, DType::f32, device);
  Random(3).normal(stimulus);
  ModelInput input;
  input.session = session;
  input.stimulus = stimulus;
  const Tensor responses = model->forward(input, {}).detach();
  TrainingStep training(*model, TrainingOptions{});
  Random random(3);
  TrainingStep::Settings settings;
  settings.learning_rate = 1e-3;
  settings.random = &random;
  const auto faults_of = [&](int steps) {
    const auto faults = [] {
      rusage usage{};
      ::getrusage(RUSAGE_SELF, &usage);
      return usage.ru_minflt;
    };
    const auto before = faults();
    for (int i = 0; i < steps; ++i) training.run(input, responses, settings);
    return faults() - before;
  };
  CHECK(faults_of(3) > 100);  // what the plan touches is counted
  CHECK(faults_of(20) < 20);
}

TEST_CASE("what the system says of memory") {
  const std::size_t before = resident_memory();
  CHECK(before > 1'000'000);
  CHECK(available_memory() > 1'000'000);
  CHECK(peak_resident_memory() >= before);
  if (sanitized) return;
  const std::vector<char> touched(100'000'000, 1);
  CHECK(resident_memory() > before + 90'000'000);
  CHECK(peak_resident_memory() > before + 90'000'000);
  CHECK(touched.back() == 1);
}
