// Whole models on the emulator, in memory that the host cannot reach, and on the GPU where there is one.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "completed_tables.hpp"
#include "engine/sanitized.hpp"
#include "golden_models.hpp"
#include "gpu_kernels.hpp"
#include "kernels/backends.hpp"
#include "models/json.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

// ---- devices
// ---------------------------------------------------------------------------------------------------

struct One {
  std::string name;
  Device device;
};

/// Reference kernels alone show host accesses; the others what kernels do in whole models.
std::vector<One> devices() {
  struct Reference;
  struct Emulator;
  std::vector<One> all{
      {"reference kernels in guarded memory",
       device_with_tables(guarded_emulator_device(), wrapped_tables<Completed<Reference>>({}))},
      {"emulator", device_with_tables(guarded_emulator_device(2),
                                      wrapped_tables<Completed<Emulator>>(emulator_tables()))}};
  if (gpu()) all.push_back({"GPU", *gpu()});
  return all;
}

/// Runs `body` and adds the kernels that were missing. On a GPU the first of them ends it: false.
template <class Body>
bool run_on(const One& one, std::set<std::string>& missing, Body body) {
  served().clear();
  bool whole = true;
  try {
    body();
  } catch (const DeviceError& error) {
    const std::string what = error.what(), says = "this device has no kernel ";
    const auto at = what.find(says);
    if (at == std::string::npos) throw;
    served().insert(what.substr(at + says.size()));
    whole = false;
  }
  if (one.name.rfind("reference", 0) != 0) missing.insert(served().begin(), served().end());
  return whole;
}

void say_missing(const One& one, const std::string& what, const std::set<std::string>& missing) {
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  CHECK_MESSAGE(missing.empty(), one.name << ", " << what << ": no CUDA kernel yet: " << names);
}

}  // namespace

// ---- memory
// ----------------------------------------------------------------------------------------------------

TEST_CASE("guarded memory ends whoever touches it from the host, and is NaN until written") {
  const Device device = guarded_emulator_device();
  CHECK_FALSE(device.on_host());
  const Tensor tensor({5}, DType::f32, device);
  for (const float value : tensor.to_vector<float>()) CHECK(std::isnan(value));
  tensor.fill(3);
  CHECK(tensor.clone().to(cpu_device(1)).to_vector<float>() == std::vector<float>(5, 3));
  const ::pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    const volatile float read = tensor.data<float>()[0];
    ::_exit(read == 3 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
}

TEST_CASE("guarded memory is given out again, its neighbours joined") {
  const Device device = guarded_emulator_device();
  const auto at = [](const Tensor& tensor) { return static_cast<std::byte*>(tensor.raw()); };
  std::vector<Tensor> parts;
  for (int i = 0; i < 4; ++i) parts.emplace_back(Shape{100000}, DType::f32, device);
  std::byte* const first = at(parts[0]);
  for (const int gone : {0, 2, 1}) parts[static_cast<std::size_t>(gone)] = Tensor();
  const Tensor whole({300000}, DType::f32, device);
  CHECK(at(whole) == first);
  whole.fill(1);
  parts[3].fill(2);
  CHECK(whole.to_vector<float>() == std::vector<float>(300000, 1));
  CHECK(device.memory().bytes_in_use == 1600000);
}

// ---- golden cases
// ----------------------------------------------------------------------------------------------

TEST_CASE("golden cases of every class on every device") {
  const std::size_t stride = sanitized ? 12 : 1;  // sanitizers slow the emulator down tenfold and more
  for (const One& one : devices())
    for (const auto& [prefix, cases] : families) {
      Totals totals;
      int skipped = 0;
      const std::vector<std::string> names = case_names(prefix);
      CHECK(static_cast<int>(names.size()) == cases);
      std::set<std::string> missing;
      for (std::size_t i = 0; i < names.size(); i += stride) {
        INFO(one.name, ", ", names[i]);
        skipped += !run_on(one, missing, [&] {
          run_case(names[i], {one.device, DType::f32}, device_tolerance, false, totals);
        });
      }
      say_missing(one, prefix + "*", missing);
      CHECK(skipped == 0);
      MESSAGE(one.name << ", " << prefix << "*: " << totals.cases << " cases, " << skipped << " skipped, "
                       << totals.compared << " tensors, worst " << totals.worst << " at " << totals.where);
    }
}

// ---- training steps
// --------------------------------------------------------------------------------------------

namespace {

struct Training {
  std::string name;
  Json config;
  std::int64_t batch, frames = 1;
};

Json encoder(const Json& readout, const Json& shifter) {
  return {{"class", "FiringRateEncoder"},
          {"in_shape", {1, 12, 14}},
          {"core",
           {{"class", "Stacked2dCore"},
            {"input_channels", 1},
            {"hidden_channels", 8},
            {"input_kern", 5},
            {"hidden_kern", 3},
            {"layers", 3},
            {"depth_separable", true},
            {"stack", -1},
            {"gamma_input", 0.3}}},
          {"readout", readout},
          {"shifter", shifter},
          {"learning_rate", 1e-3},
          {"sessions", {{"s", {{"n_neurons", 21}}}}}};
}

Json core_readout(bool gaussian) {
  return {{"class", "CoreReadout"},
          {"in_shape", {2, 18, 9, 8}},
          {"hidden_channels", {4, 5}},
          {"temporal_kernel_sizes", {6, 4}},
          {"spatial_kernel_sizes", {4, 3}},
          {"core_gamma_input", 0.1},
          {"core_gamma_hidden", 0.1},
          {"core_gamma_in_sparse", 0.05},
          {"readout_gaussian_masks", gaussian},
          {"readout_gamma_masks", 0.1},
          {"learning_rate", 1e-3},
          {"sessions", {{"s", {{"n_neurons", 11}}}}}};
}

Json klindt(bool movies) {
  const Json kernel = movies ? Json{2, 3, 3} : Json{3, 3};
  return {{"class", movies ? "KlindtCoreReadout3D" : "KlindtCoreReadout2D"},
          {"image_size", {11, 10}},
          {"image_channels", 2},
          {"kernel_sizes", {kernel, kernel}},
          {"num_kernels", {4, 3}},
          {"act_fns", {"relu", "relu"}},
          {"reg", {0.02, 0.03, 0.05, 0.0}},
          {"init_scales", {Json{0, 0.1}, Json{0, 0.05}, Json{0, 0.05}}},
          {"kernel_constraint", "norm"},
          {"mask_constraint", "abs"},
          {"final_relu", true},
          {"learning_rate", 1e-3},
          {"sessions", {{"s", {{"n_neurons", 7}}}}}};
}

std::vector<Training> trainings() {
  const Json gaussian{
      {"class", "FullGaussian2d"}, {"bias", true}, {"init_mu_range", 0.3}, {"feature_reg_weight", 0.01}},
      factorized{{"class", "FullFactorized2d"}, {"bias", true}, {"spatial_and_feature_reg_weight", 0.001}},
      shifter{{"class", "MLPShifter"},
              {"input_channels", 2},
              {"hidden_channels_shifter", 5},
              {"shift_layers", 3}};
  return {{"CoreReadout, Gaussian masks", core_readout(true), 3, 18},
          {"CoreReadout, free masks", core_readout(false), 3, 18},
          {"KlindtCoreReadout2D", klindt(false), 6},
          {"KlindtCoreReadout3D", klindt(true), 2, 7},
          {"FullGaussian2d with shifter", encoder(gaussian, shifter), 4},
          {"FullFactorized2d", encoder(factorized, nullptr), 4}};
}

struct Trained {
  std::vector<double> losses;
  std::vector<NamedTensor> tensors;  // on the host
};

/// Input and responses of step `i` on the host.
struct Drawn {
  ModelInput input{"s", {}, {}, {}};
  Tensor responses;

  Drawn(const Training& training, const Model& model, std::uint32_t i) {
    const Shape in = model.in_shape();
    const bool movies = model.takes_movies();
    const std::int64_t batch = training.batch;
    std::vector<std::int64_t> out =
        model.output_shape(movies ? Shape{in[0], training.frames, in[2], in[3]} : in, "s").vector();
    out.insert(out.begin(), batch);
    const Device host = cpu_device(1);
    Random random(17, 0, i);
    const auto normal = [&](const Shape& shape) {
      const Tensor tensor(shape, DType::f32, host);
      random.normal(tensor);
      return tensor;
    };
    input.stimulus = normal(movies ? Shape{batch, training.frames, in[2], in[3], in[0]}
                                   : Shape{batch, in[1], in[2], in[0]});
    if (const std::int64_t columns = model.pupil_columns()) input.pupil_center = normal({batch, columns});
    if (const Shape noise = model.noise_shape(batch, "s"); noise.rank() > 0) input.noise = normal(noise);
    responses = Tensor(Shape(out), DType::f32, host);
    random.uniform(responses, 0, 2);
  }
};

/// Biases in front of a batch norm: their gradient is nothing but rounding, and AdamW walks along it.
std::vector<std::string> unlearnable(const Training& training) {
  const Placement exact{cpu_device(1, Isa::reference), DType::f64};
  const auto model = make_model(training.config.dump(), exact, 3);
  const Drawn drawn(training, *model, 0);
  const auto wide = [&](const Tensor& tensor) {
    return tensor ? tensor.to(DType::f64).to(exact.device) : tensor;
  };
  const Gradients all = gradients(*model,
                                  {"s", to_channels_first(wide(drawn.input.stimulus)), wide(drawn.responses),
                                   wide(drawn.input.pupil_center), wide(drawn.input.noise)},
                                  {true, nullptr});
  double largest = 0;
  for (const auto& [name, gradient] : all.parameters) largest = std::max(largest, norm(gradient));
  std::vector<std::string> names;
  for (const auto& [name, gradient] : all.parameters)
    if (norm(gradient) < 1e-11 * largest) names.push_back(name);
  return names;
}

/// The same steps on any device: initial values and inputs are made on the host.
Trained train_on(const Training& training, const Device& device) {
  const Device host = cpu_device(1);
  const auto initial = make_model(training.config.dump(), {host, DType::f32}, 3),
             model = make_model(training.config.dump(), {device, DType::f32}, 3);
  const std::vector<NamedTensor> from = initial->tensors(), to = model->tensors();
  for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_from(from[i].tensor);
  for (const std::string& name : unlearnable(training)) model->freeze(name);
  TrainingOptions options;
  options.gradient_clip = 1e3;
  TrainingStep step(*model, options);
  Trained trained;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const Drawn drawn(training, *initial, i);
    const auto moved = [&](const Tensor& tensor) { return tensor ? tensor.to(device) : tensor; };
    const ModelInput input{"s", moved(drawn.input.stimulus), moved(drawn.input.pupil_center),
                           moved(drawn.input.noise)};
    const StepLosses losses =
        step.run(input, moved(drawn.responses), {model->learning_rate(), nullptr, false});
    trained.losses.push_back(losses.total);
  }
  for (const NamedTensor& named : model->tensors())
    trained.tensors.push_back({named.name, named.tensor.to(host).clone(), named.role, named.frozen});
  return trained;
}

double compare_training(const Trained& expected, const Trained& actual) {
  REQUIRE(actual.losses.size() == 5);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(actual.losses[i] == doctest::Approx(expected.losses[i]).epsilon(1e-5));
  REQUIRE(actual.tensors.size() == expected.tensors.size());
  double worst = 0;
  for (std::size_t i = 0; i < expected.tensors.size(); ++i) {
    INFO(expected.tensors[i].name);
    const Comparison same = relative_l2(expected.tensors[i].tensor, actual.tensors[i].tensor, 1e-4);
    CHECK_MESSAGE(same, same);
    worst = std::max(worst, same.worst);
  }
  return worst;
}

/// Not checked: tensor cores round in their own way.
void say_same_bits(const Training& training, const Trained& emulated, const Trained& on_gpu) {
  std::size_t same = 0;
  for (std::size_t i = 0; i < emulated.tensors.size(); ++i)
    same += static_cast<bool>(exact(emulated.tensors[i].tensor, on_gpu.tensors[i].tensor));
  MESSAGE(training.name << ": " << same << " of " << emulated.tensors.size()
                        << " tensors have the bits of the emulator on the GPU");
}

}  // namespace

TEST_CASE("five training steps of every class end on every device where they end on the CPU") {
  for (const Training& training : trainings()) {
    const Trained expected = train_on(training, cpu_device(2));
    Trained emulated;
    for (const One& one : devices()) {
      INFO(one.name, ", ", training.name);
      std::set<std::string> missing;
      run_on(one, missing, [&] {
        const Trained trained = train_on(training, one.device);
        const double worst = compare_training(expected, trained);
        MESSAGE(one.name << ", " << training.name << ": five steps, worst " << worst);
        if (one.name == "emulator") emulated = trained;
        if (one.name == "GPU") say_same_bits(training, emulated, trained);
      });
      say_missing(one, training.name, missing);
    }
  }
}

TEST_CASE("two trainings on one device give the same bits") {
  for (const Training& training : trainings())
    for (const One& one : devices()) {
      if (one.name.rfind("reference", 0) == 0) continue;
      INFO(one.name, ", ", training.name);
      std::set<std::string> missing;
      run_on(one, missing, [&] {
        const Trained first = train_on(training, one.device), again = train_on(training, one.device);
        CHECK(first.losses == again.losses);
        for (std::size_t i = 0; i < first.tensors.size(); ++i)
          CHECK(exact(first.tensors[i].tensor, again.tensors[i].tensor));
      });
      say_missing(one, training.name, missing);
    }
}
