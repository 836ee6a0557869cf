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
  return {name, config.dump(), batch};
}

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

Gradients gradients_on(const Workload& workload, const Device& device) {
  const auto model = make_model(workload.config, {device, DType::f32}, 7);
  const WorkloadBatch batch = make_batch(workload, *model, 1);
  GradientsInput input;
  input.session = workload.session;
  input.stimulus = to_channels_first(batch.input.stimulus);
  input.responses = batch.responses;
  return gradients(*model, input, {true, nullptr});
}

}  // namespace

std::vector<Workload> workloads() {
  return {core_readout("W1", 32, {2, 150, 18, 16}, 41), core_readout("W1n", 32, {2, 150, 18, 16}, 1000),
          core_readout("W1s", 32, {1, 50, 32, 32}, 113)};
}

Workload one_frame() { return core_readout("L1", 1, {1, 31, 32, 32}, 113); }

WorkloadBatch make_batch(const Workload& workload, const Model& model, std::int64_t batch) {
  const Shape in = model.in_shape();
  const Placement& placement = model.placement();
  WorkloadBatch result;
  result.input.session = workload.session;
  result.input.stimulus = Tensor({batch, in[1], in[2], in[3], in[0]}, placement.dtype, placement.device);
  Random random(1);
  random.normal(result.input.stimulus);
  const Shape out = model.output_shape(in, workload.session);
  result.responses = Tensor({batch, out[0], out[1]}, placement.dtype, placement.device);
  random.uniform(result.responses, 0.0, 0.6);
  return result;
}

void check_against_reference(const Workload& workload, const Device& device) {
  const Gradients expected = gradients_on(workload, cpu_device(device.threads(), Isa::reference));
  const Gradients actual = gradients_on(workload, device);
  // Single precision on both sides: batch statistics over few values and long sums lose some digits.
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
