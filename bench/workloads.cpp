#include "bench/workloads.hpp"

#include <cmath>

#include "fovea/gradients.hpp"
#include "fovea/ops.hpp"
#include "models/json.hpp"

namespace fovea::bench {
namespace {

/// openretina's ExampleCoreReadout with its defaults (its release hands readout_gamma to the masks).
Workload core_readout(const std::string& name, std::int64_t batch, std::vector<std::int64_t> in_shape,
                      std::int64_t neurons) {
  const Json config{{"class", "CoreReadout"},
                    {"in_shape", in_shape},
                    {"hidden_channels", {16, 16}},
                    {"temporal_kernel_sizes", {21, 11}},
                    {"spatial_kernel_sizes", {11, 5}},
                    {"core_hidden_padding", {0, 2, 2}},
                    {"core_gamma_temporal", 40.0},
                    {"readout_gamma", 0.0},
                    {"readout_gamma_masks", 0.4},
                    {"learning_rate", 1e-3},
                    {"sessions", {{"s", {{"n_neurons", neurons}}}}}};
  return {name, config.dump(), batch, in_shape[1]};
}

/// The Klindt models with a mean Poisson loss, as the peer trains them.
Workload klindt(const std::string& name, std::int64_t batch, bool movies) {
  Json config{{"class", movies ? "KlindtCoreReadout3D" : "KlindtCoreReadout2D"},
              {"image_size", 108},
              {"image_channels", 1},
              {"kernel_sizes", {Json{7, 7}}},
              {"num_kernels", {16}},
              {"act_fns", {"relu"}},
              {"reg", {1e-4, 1e-4, 1e-4, 0.2}},
              {"init_scales", {Json{0, 0.1}, Json{0, 0.05}, Json{0, 0.05}}},
              {"final_relu", true},
              {"loss", {{"class", "PoissonNLLLoss"}}},
              {"learning_rate", 1e-3},
              {"sessions", {{"s", {{"n_neurons", 41}}}}}};
  return {name, config.dump(), batch, movies ? 50 : 1};
}

/// Stacked2dCore of the readouts tutorial with one of its readouts.
Workload encoder(const std::string& name, std::int64_t batch, std::array<std::int64_t, 2> size,
                 std::int64_t neurons, const Json& readout) {
  const Json config{{"class", "FiringRateEncoder"},
                    {"in_shape", {1, size[0], size[1]}},
                    {"core",
                     {{"class", "Stacked2dCore"},
                      {"input_channels", 1},
                      {"hidden_channels", 64},
                      {"input_kern", 9},
                      {"hidden_kern", 7},
                      {"layers", 4},
                      {"depth_separable", true},
                      {"stack", -1},
                      {"gamma_input", 6.3831}}},
                    {"readout", readout},
                    {"learning_rate", 1e-3},
                    {"sessions", {{"s", {{"n_neurons", neurons}}}}}};
  return {name, config.dump(), batch};
}

const Json gaussian{{"class", "FullGaussian2d"},
                    {"bias", true},
                    {"init_mu_range", 0.3},
                    {"gauss_type", "full"},
                    {"feature_reg_weight", 0.0076}};
const Json factorized{
    {"class", "FullFactorized2d"}, {"bias", true}, {"spatial_and_feature_reg_weight", 0.0076}};

double relative_l2(const Tensor& expected, const Tensor& actual) {
  const std::vector<double> a = expected.to(DType::f64).to_vector<double>(),
                            b = actual.to(DType::f64).to_vector<double>();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += a[i] * a[i];
  }
  return std::sqrt(difference / size);
}

double norm(const Tensor& tensor) {
  double sum = 0;
  for (const double value : tensor.to(DType::f64).to_vector<double>()) sum += value * value;
  return std::sqrt(sum);
}

Gradients gradients_on(const Workload& workload, const Placement& placement) {
  const auto model = make_model(workload.config, placement, 7);
  const WorkloadBatch batch = make_batch(workload, *model, 1);
  GradientsInput input;
  input.session = workload.session;
  input.stimulus = to_channels_first(batch.input.stimulus);
  input.responses = batch.responses;
  return gradients(*model, input, {true, nullptr});
}

}  // namespace

std::vector<Workload> workloads() {
  return {core_readout("W1", 32, {2, 150, 18, 16}, 41),
          core_readout("W1n", 32, {2, 150, 18, 16}, 1000),
          core_readout("W1s", 32, {1, 50, 32, 32}, 113),
          klindt("W2", 256, false),
          klindt("W2v", 8, true),
          encoder("W3", 32, {36, 64}, 8372, gaussian),
          encoder("W3f", 8, {144, 256}, 8372, gaussian),
          encoder("W4", 32, {36, 64}, 1000, factorized)};
}

Workload one_frame() { return core_readout("L1", 1, {1, 31, 32, 32}, 113); }

WorkloadBatch make_batch(const Workload& workload, const Model& model, std::int64_t batch) {
  const Shape in = model.in_shape();
  const Placement& placement = model.placement();
  WorkloadBatch result;
  result.input.session = workload.session;
  const bool movies = model.takes_movies();
  const Shape sample = movies ? Shape{in[0], workload.frames, in[2], in[3]} : in;
  const Shape stimulus =
      movies ? Shape{batch, workload.frames, in[2], in[3], in[0]} : Shape{batch, in[1], in[2], in[0]};
  result.input.stimulus = Tensor(stimulus, placement.dtype, placement.device);
  Random random(1);
  random.normal(result.input.stimulus);
  std::vector<std::int64_t> out = model.output_shape(sample, workload.session).vector();
  out.insert(out.begin(), batch);
  result.responses = Tensor(Shape(out), placement.dtype, placement.device);
  random.uniform(result.responses, 0.0, 0.6);
  return result;
}

void check_against_reference(const Workload& workload, const Device& device) {
  // The same numbers in double precision: naive sums of half a million terms would lose digits of their own.
  const Gradients expected =
      gradients_on(workload, {cpu_device(device.threads(), Isa::reference), DType::f64});
  const Gradients actual = gradients_on(workload, {device, DType::f32});
  constexpr double tolerance = 2e-4;
  double largest = 0;
  for (const auto& [name, tensor] : expected.parameters) largest = std::max(largest, norm(tensor));
  const auto compare = [&](const std::string& name, const Tensor& a, const Tensor& b) {
    // A gradient that is zero up to rounding (a bias before batch norm) is measured against the largest one.
    const double size = norm(a);
    const double error = size < 1e-6 * largest ? std::fabs(norm(b) - size) / largest : relative_l2(a, b);
    if (!(error <= tolerance))
      throw Error("bench", text(workload.name, ' ', name, " differs from the reference by ", error, " (",
                                device.isa() == Isa::reference ? "reference" : to_string(device.isa()), ")"));
  };
  compare("output", expected.output, actual.output);
  compare("loss", expected.loss, actual.loss);
  for (std::size_t i = 0; i < expected.parameters.size(); ++i)
    compare(expected.parameters[i].first, expected.parameters[i].second, actual.parameters[i].second);
}

}  // namespace fovea::bench
