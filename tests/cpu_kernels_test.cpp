// CPU separable convolution of every instruction set against the f64 reference.
#include "tests/cpu_kernels.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "fovea/random.hpp"
#include "tests/sepconv3d_cases.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

struct Sizes {
  std::size_t x, y, spatial, temporal;
};

Sizes sizes_of(const SepConv3dShape& s) {
  const std::int64_t pairs = s.in_channels * s.out_channels;
  return {static_cast<std::size_t>(s.batch * s.in_t * s.in_h * s.in_w * s.in_channels),
          static_cast<std::size_t>(s.batch * s.out_t * s.out_h * s.out_w * s.out_channels),
          static_cast<std::size_t>(pairs * s.kernel_h * s.kernel_w),
          static_cast<std::size_t>(pairs * s.kernel_t)};
}

// The passes as check_kernel runs them; inputs are x, dy, spatial, temporal.
struct Forward {
  const SepConv3dShape& shape;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.sepconv3d.forward(out[0], nullptr, in[0], in[2], in[3], shape, queue);
  }
};
struct GradInput {
  const SepConv3dShape& shape;
  Write mode;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.sepconv3d.grad_input(out[0], in[1], in[2], in[3], shape, mode, queue);
  }
};
struct GradWeight {
  const SepConv3dShape& shape;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.sepconv3d.grad_weight(out[0], out[1], in[1], in[0], nullptr, in[2], in[3], shape, queue);
  }
};
struct Grad {
  const SepConv3dShape& shape;
  Write dx_mode;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.sepconv3d.grad(out[0], out[1], out[2], in[1], in[0], nullptr, in[2], in[3], shape, dx_mode, queue);
  }
};

Inputs inputs_of(const SepConv3dShape& s, bool whole) {
  const Sizes n = sizes_of(s);
  const auto random = [&](std::size_t count, unsigned seed) {
    return whole ? random_whole(count, seed) : random_normal(count, seed);
  };
  Inputs inputs{random(n.x, 1), random(n.y, 2), random(n.spatial, 3), random(n.temporal, 4)};
  // Sums of whole numbers stay below 2^24 only if the factors are few and small.
  if (whole)
    for (std::size_t i = 0; i < inputs.size(); ++i)
      for (float& value : inputs[i]) value = std::fmod(value, 2.0f);
  return inputs;
}

/// Rounding bounds: the same pass over magnitudes gives sum |terms|, each of which is rounded at most
/// roundings[output] times, twice where multiply-add is two operations.
template <class Run>
std::vector<std::vector<double>> bounds_of(Inputs inputs, std::vector<KernelOutput> outputs, const Run& run,
                                           const std::vector<std::int64_t>& roundings) {
  for (auto& input : inputs)
    for (float& value : input) value = std::abs(value);
  for (auto& output : outputs)
    for (float& value : output.initial) value = std::abs(value);
  auto bounds =
      kernel_outputs(reference_tables<double>(), cpu_device(1, Isa::reference), inputs, outputs, run);
  for (std::size_t i = 0; i < bounds.size(); ++i)
    for (double& bound : bounds[i])
      bound = rounding_bound<float>(bound, 2.0 * static_cast<double>(roundings[i] + 4));
  return bounds;
}

template <class Run>
void check_pass(const Inputs& inputs, std::vector<KernelOutput> outputs, const Run& run,
                const std::vector<std::int64_t>& roundings) {
  const auto bounds = bounds_of(inputs, outputs, run, roundings);
  for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].bounds = bounds[i];
  check_kernel(inputs, outputs, run);
}

}  // namespace

TEST_CASE("separable convolution: every shape within the rounding bound") {
  for (const SepConv3dCase& one : small_sepconv3d_cases()) {
    const auto& name = one.name;
    const SepConv3dShape& shape = one.shape;
    CAPTURE(std::string(name));
    const Sizes n = sizes_of(shape);
    const Inputs inputs = inputs_of(shape, false);
    const std::int64_t spatial = shape.kernel_h * shape.kernel_w;
    // Space first, then time, or the other way round.
    check_pass(inputs, {{n.y, 0}}, Forward{shape},
               {std::max(spatial + shape.in_channels * shape.kernel_t,
                         shape.kernel_t + shape.in_channels * spatial)});
    const std::int64_t to_input = spatial + shape.out_channels * shape.kernel_t;
    check_pass(inputs, {{n.x, 0}}, GradInput{shape, Write::overwrite}, {to_input});
    KernelOutput sum{n.x, 0};
    sum.initial = random_normal(n.x, 5);
    check_pass(inputs, {sum}, GradInput{shape, Write::accumulate}, {to_input});
    const std::int64_t places = shape.batch * shape.out_h * shape.out_w;
    const std::int64_t to_weight = spatial + shape.kernel_t + std::max(shape.out_t, shape.in_t);
    check_pass(inputs, {{n.spatial, 0}, {n.temporal, 0}}, GradWeight{shape},
               {to_weight + places, to_weight + places});
    // The input's places may be the ones over which the temporal weights' gradient is summed.
    const std::int64_t in_places = std::max(places, shape.batch * shape.in_h * shape.in_w);
    const std::vector<std::int64_t> roundings{to_input, to_weight + places, to_weight + in_places};
    check_pass(inputs, {{n.x, 0}, {n.spatial, 0}, {n.temporal, 0}}, Grad{shape, Write::overwrite}, roundings);
    check_pass(inputs, {sum, {n.spatial, 0}, {n.temporal, 0}}, Grad{shape, Write::accumulate}, roundings);
  }
}

TEST_CASE("separable convolution: whole numbers are exact") {
  for (const SepConv3dCase& one : small_sepconv3d_cases()) {
    const auto& name = one.name;
    const SepConv3dShape& shape = one.shape;
    CAPTURE(std::string(name));
    const Sizes n = sizes_of(shape);
    const Inputs inputs = inputs_of(shape, true);
    check_kernel(inputs, {{n.y, 0}}, Forward{shape});
    check_kernel(inputs, {{n.x, 0}}, GradInput{shape, Write::overwrite});
    check_kernel(inputs, {{n.spatial, 0}, {n.temporal, 0}}, GradWeight{shape});
    check_kernel(inputs, {{n.x, 0}, {n.spatial, 0}, {n.temporal, 0}}, Grad{shape, Write::overwrite});
  }
}

TEST_CASE("separable convolution: the bound of a pass finds a tap left out") {
  const SepConv3dShape shape = sepconv3d_shape(2, 2, 16, {30, 7, 8}, {11, 3, 3});
  const Device host = cpu_device(1, Isa::reference);
  Inputs inputs = inputs_of(shape, false);
  KernelOutput output{sizes_of(shape).y, 0};
  output.bounds = bounds_of(inputs, {output}, Forward{shape}, {9 + 2 * 11})[0];
  const auto expected = kernel_outputs(reference_tables<double>(), host, inputs, {output}, Forward{shape})[0];
  inputs[3][5] = 0;
  const auto wrong = kernel_outputs(tables<float>(host), host, inputs, {output}, Forward{shape})[0];
  CHECK_FALSE(within_output(expected, wrong, output, host));
}

TEST_CASE("separable convolution: no terms give zeros") {
  const SepConv3dShape shape = sepconv3d_shape(0, 2, 3, {5, 4, 4}, {2, 2, 2});
  for (const Isa isa : available_isas()) {
    CAPTURE(to_string(isa));
    const Device device = cpu_device(2, isa);
    const Sizes n = sizes_of(shape);
    const auto grads = kernel_outputs(tables<float>(device), device, inputs_of(shape, false),
                                      {{n.spatial, 0}, {n.temporal, 0}}, GradWeight{shape});
    CHECK(grads[0] == std::vector<float>(n.spatial, 0.0f));
    CHECK(grads[1] == std::vector<float>(n.temporal, 0.0f));
    CHECK(kernel_outputs(tables<float>(device), device, inputs_of(shape, false),
                         {{0, 0}, {n.spatial, 0}, {n.temporal, 0}}, Grad{shape, Write::overwrite}) ==
          std::vector<std::vector<float>>{{}, grads[0], grads[1]});
  }
}

TEST_CASE("separable convolution: kept sums give the bits of those taken again") {
  std::vector<SepConv3dCase> cases = small_sepconv3d_cases();
  for (const SepConv3dCase& one : workload_sepconv3d_cases(3)) cases.push_back(one);
  constexpr std::size_t line = 16;
  const auto aligned = [](float* data) {
    return reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(data) + 63) / 64 * 64);
  };
  int kept_cases = 0;
  for (const SepConv3dCase& one : cases) {
    const auto& name = one.name;
    const SepConv3dShape& shape = one.shape;
    CAPTURE(std::string(name));
    const Sizes n = sizes_of(shape);
    const Inputs inputs = inputs_of(shape, false);
    for (const Isa isa : available_isas()) {
      CAPTURE(to_string(isa));
      const Device device = cpu_device(2, isa);
      const auto* kernels = &tables<float>(device).sepconv3d;
      const auto floats = static_cast<std::size_t>(kernels->kept ? kernels->kept(shape) : 0);
      if (floats == 0) continue;
      ++kept_cases;
      const auto results = [&](std::size_t kept_floats, const auto& place) {
        const std::vector<KernelOutput> outputs{{n.y, 0},        {n.spatial, 0},  {n.temporal, 0},
                                                {n.spatial, 0},  {n.temporal, 0}, {n.x, 0},
                                                {kept_floats, 0}};
        return kernel_outputs(tables<float>(device), device, inputs, outputs,
                              [&](const auto&, const auto& in, const auto& out, const Queue& queue) {
                                float* const kept = place(out[6]);
                                kernels->forward(out[0], kept, in[0], in[2], in[3], shape, queue);
                                kernels->grad_weight(out[1], out[2], in[1], in[0], kept, in[2], in[3], shape,
                                                     queue);
                                kernels->grad(out[5], out[3], out[4], in[1], in[0], kept, in[2], in[3], shape,
                                              Write::overwrite, queue);
                              });
      };
      const auto again = results(floats, [](float*) -> float* { return nullptr; });
      const auto once = results(floats, [](float* data) { return data; });
      const auto streamed = results(floats + line, aligned);
      for (const std::size_t i : {0, 1, 2, 3, 4, 5}) {
        CHECK(same_bits(again[i], once[i]));
        CHECK(same_bits(again[i], streamed[i]));
      }
      CHECK_FALSE(same_bits(again[6], once[6]));  // nothing was kept there, then something
    }
  }
  CHECK(kept_cases >= 8);
}

TEST_CASE("separable convolution: inner sums are kept where weights need gradients, and only there") {
  const std::vector<Isa> isas = available_isas();
  const auto isa = std::find_if(isas.begin(), isas.end(), [](Isa one) { return one != Isa::reference; });
  if (isa == isas.end()) {
    MESSAGE("1 skipped: this build has the reference kernels alone");
    return;
  }
  const Device device = cpu_device(2, *isa);
  const auto& kernels = tables<float>(device).sepconv3d;
  const SepConv3dShape shape{2, 2, 16, 12, 14, 12, 5, 9, 8, 0, 0, 0, 8, 6, 5};
  const std::int64_t sums = kernels.kept(shape);
  REQUIRE(sums > 0);
  const auto random = [&](const Shape& tensor_shape, unsigned seed) {
    Tensor tensor(tensor_shape, DType::f32, device);
    Random(seed).normal(tensor);
    return tensor;
  };
  Tensor x = random({2, 12, 14, 12, 2}, 1), spatial = random({16, 2, 9, 8}, 2),
         temporal = random({16, 2, 5}, 3);
  const Tensor dy = random({2, 8, 6, 5, 16}, 4);
  const auto held = [&](bool stimulus, bool weights) {
    x.set_requires_grad(stimulus);
    spatial.set_requires_grad(weights);
    temporal.set_requires_grad(weights);
    const std::size_t before = device.memory().bytes_in_use;
    const Tensor y = sepconv3d(x, spatial, temporal);
    return device.memory().bytes_in_use - before;
  };
  const std::size_t with_sums = held(false, true);
  CHECK(with_sums >= held(true, false) + static_cast<std::size_t>(sums) * sizeof(float));
  CHECK(held(true, true) == with_sums);
  CHECK(held(false, false) == held(true, false));

  const Tensor dspatial = empty_like(spatial.detach()), dtemporal = empty_like(temporal.detach());
  kernels.grad_weight(dspatial.data<float>(), dtemporal.data<float>(), dy.data<float>(), x.data<float>(),
                      nullptr, spatial.data<float>(), temporal.data<float>(), shape,
                      device.backend().queue());
  for (const bool stimulus : {false, true}) {
    CAPTURE(stimulus);
    x.set_requires_grad(stimulus);
    spatial.set_requires_grad(true);
    temporal.set_requires_grad(true);
    spatial.clear_grad();
    temporal.clear_grad();
    backward(sepconv3d(x, spatial, temporal), dy);
    CHECK(exact(spatial.grad(), dspatial));
    CHECK(exact(temporal.grad(), dtemporal));
  }
}

TEST_CASE("separable convolution: every shape gives the same bits everywhere") {
  std::vector<SepConv3dCase> cases = small_sepconv3d_cases();
  for (const SepConv3dCase& one : workload_sepconv3d_cases(3)) cases.push_back(one);
  for (const SepConv3dCase& one : cases) {
    const auto& name = one.name;
    const SepConv3dShape& shape = one.shape;
    CAPTURE(std::string(name));
    const Sizes n = sizes_of(shape);
    const Inputs inputs = inputs_of(shape, false);
    const auto run = [&shape = shape](const auto& tables, const auto& in, const auto& out,
                                      const Queue& queue) {
      Forward{shape}(tables, in, out, queue);
      tables.sepconv3d.grad_weight(out[1], out[2], in[1], in[0], nullptr, in[2], in[3], shape, queue);
      if (shape.in_channels == 1) return;
      tables.sepconv3d.grad_input(out[3], in[1], in[2], in[3], shape, Write::overwrite, queue);
      tables.sepconv3d.grad(out[4], out[5], out[6], in[1], in[0], nullptr, in[2], in[3], shape,
                            Write::overwrite, queue);
    };
    std::vector<KernelOutput> outputs{{n.y, 0}, {n.spatial, 0}, {n.temporal, 0}};
    if (shape.in_channels > 1)
      for (const std::size_t count : {n.x, n.x, n.spatial, n.temporal}) outputs.push_back({count, 0});
    std::vector<std::vector<float>> first;
    for (const Isa isa : available_isas()) {
      if (isa == Isa::reference || isa == Isa::baseline) continue;
      for (const int threads : {1, 2, 5}) {
        CAPTURE(to_string(isa));
        CAPTURE(threads);
        const Device device = cpu_device(threads, isa);
        const auto results = kernel_outputs(tables<float>(device), device, inputs, outputs, run);
        if (first.empty()) first = results;
        for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(same_bits(first[i], results[i]));
      }
    }
  }
}
