#include "bench/kernels.hpp"

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/backend.hpp"
#include "engine/step_memory.hpp"
#include "fovea/random.hpp"
#include "fovea/tensor.hpp"
#include "kernels/tables.hpp"

namespace fovea::bench {
namespace {

struct Limits {
  Device device;
  Machine machine;
  Queue queue() const { return device.backend().queue(); }
  const KernelTables<float>& tables() const { return fovea::tables<float>(device); }
};

Tensor random_tensor(const Shape& shape, const Device& device) {
  const Tensor tensor(shape, DType::f32, device);
  Random(5).normal(tensor);
  return tensor;
}

/// Work of one call: floating point operations or bytes, whichever bounds it.
struct Work {
  double flops = 0, bytes = 0;
};

void add(const std::string& name, const Limits& limits, const Work& work, std::function<void()> call) {
  benchmark::RegisterBenchmark(
      name.c_str(),
      [=](benchmark::State& state) {
        StepMemory memory(limits.device);  // scratch memory stays, as in the steps of a training
        const auto once = [&] {
          const StepMemory::Scope scope(memory, "kernel");
          call();
        };
        for (int i = 0; i < 2; ++i) once();
        for (auto _ : state) once();
        const auto rate = [&](double amount) {
          return benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
        };
        const double limit = work.flops > 0 ? limits.machine.flops : limits.machine.bytes_per_second;
        const double amount = work.flops > 0 ? work.flops : work.bytes;
        state.counters[work.flops > 0 ? "GFLOP/s" : "GB/s"] = rate(amount);
        state.counters["share"] =
            benchmark::Counter(amount / limit, benchmark::Counter::kIsIterationInvariantRate);
      })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

struct SepConvCase {
  const char* name;
  SepConv3dShape shape;
};

SepConv3dShape sepconv(std::int64_t batch, std::int64_t in, std::int64_t out, std::int64_t t, std::int64_t h,
                       std::int64_t w, std::int64_t kt, std::int64_t ks, std::int64_t pad) {
  return {batch,
          in,
          out,
          t,
          h,
          w,
          kt,
          ks,
          ks,
          0,
          pad,
          pad,
          t - kt + 1,
          h + 2 * pad - ks + 1,
          w + 2 * pad - ks + 1};
}

/// Taps that fall inside the image, summed over the outputs of one axis.
double inside_taps(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t pad) {
  double taps = 0;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t k = 0; k < kernel; ++k) taps += o + k >= pad && o + k - pad < in;
  return taps;
}

/// Useful operations of the factored convolution: in space on every frame, and in time.
struct SepConvFlops {
  double inner, outer;
  double both() const { return inner + outer; }
};

SepConvFlops sepconv_flops(const SepConv3dShape& s) {
  const double pairs = static_cast<double>(s.batch * s.in_channels * s.out_channels);
  const double space =
      inside_taps(s.in_h, s.out_h, s.kernel_h, s.pad_h) * inside_taps(s.in_w, s.out_w, s.kernel_w, s.pad_w);
  const double time = inside_taps(s.in_t, s.out_t, s.kernel_t, s.pad_t);
  return {2 * pairs * static_cast<double>(s.in_t) * space,
          2 * pairs * time * static_cast<double>(s.out_h * s.out_w)};
}

void add_sepconv(const SepConvCase& one, const Limits& limits) {
  const SepConv3dShape s = one.shape;
  const Device& device = limits.device;
  const Tensor x = random_tensor({s.batch, s.in_t, s.in_h, s.in_w, s.in_channels}, device);
  const Tensor y = random_tensor({s.batch, s.out_t, s.out_h, s.out_w, s.out_channels}, device);
  const Tensor spatial = random_tensor({s.out_channels, s.in_channels, s.kernel_h, s.kernel_w}, device);
  const Tensor temporal = random_tensor({s.out_channels, s.in_channels, s.kernel_t}, device);
  const Tensor dx = empty_like(x), dspatial = empty_like(spatial), dtemporal = empty_like(temporal);
  const SepConv3dKernels<float> kernels = limits.tables().sepconv3d;
  const std::string end = "/" + to_string(device.isa()) + "/" + one.name;
  const SepConvFlops flops = sepconv_flops(s);
  add("kernel/sepconv3d/forward" + end, limits, {flops.both()}, [=] {
    kernels.forward(y.data<float>(), nullptr, x.data<float>(), spatial.data<float>(), temporal.data<float>(),
                    s, limits.queue());
  });
  add("kernel/sepconv3d/grad_input" + end, limits, {flops.both()}, [=] {
    kernels.grad_input(dx.data<float>(), y.data<float>(), spatial.data<float>(), temporal.data<float>(), s,
                       Write::overwrite, limits.queue());
  });
  // Two gradients, each as much work as a forward pass: nothing is kept here.
  add("kernel/sepconv3d/grad_weight" + end, limits, {2 * flops.both()}, [=] {
    kernels.grad_weight(dspatial.data<float>(), dtemporal.data<float>(), y.data<float>(), x.data<float>(),
                        nullptr, spatial.data<float>(), temporal.data<float>(), s, limits.queue());
  });
  add("kernel/sepconv3d/grad" + end, limits, {2 * flops.inner + 3 * flops.outer}, [=] {
    kernels.grad(dx.data<float>(), dspatial.data<float>(), dtemporal.data<float>(), y.data<float>(),
                 x.data<float>(), nullptr, spatial.data<float>(), temporal.data<float>(), s, Write::overwrite,
                 limits.queue());
  });
}

/// C = A B with its gradients, (m,n,k) of each product.
void add_matmul(const MatmulShape& s, const Limits& limits) {
  const MatmulKernels<float> kernels = limits.tables().matmul;
  const auto one = [&](const char* name, auto kernel, const MatmulShape& shape) {
    const Device& device = limits.device;
    const Tensor a = random_tensor({shape.m * shape.k}, device),
                 b = random_tensor({shape.k * shape.n}, device), c({shape.m * shape.n}, DType::f32, device);
    const double flops =
        2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
    add(text("kernel/matmul/", name, '/', to_string(device.isa()), '/', shape.m, 'x', shape.n, 'x', shape.k),
        limits, {flops}, [=] {
          kernel(c.data<float>(), a.data<float>(), b.data<float>(), shape, Write::overwrite, limits.queue());
        });
  };
  one("nn", kernels.nn, s);
  one("tn", kernels.tn, {s.k, s.n, s.m});
  one("nt", kernels.nt, {s.m, s.k, s.n});
}

void add_batch_norm(std::int64_t rows, std::int64_t channels, const Limits& limits) {
  const Device& device = limits.device;
  const Tensor x = random_tensor({rows, channels}, device), y = random_tensor({rows, channels}, device),
               dx = empty_like(x);
  const auto vector = [&] { return Tensor::full({channels}, 1.0, DType::f32, device); };
  const Tensor weight = vector(), bias = vector(), mean = vector(), inv_std = vector(),
               running_mean = vector(), running_var = vector(), dweight = vector(), dbias = vector();
  const BatchNormShape shape{rows, channels, 1e-5, 0.1, {ActivationKind::elu}};
  const BatchNormKernels<float> kernels = limits.tables().batch_norm;
  const std::string end =
      "/" + to_string(device.isa()) + "/" + std::to_string(rows) + "x" + std::to_string(channels);
  const double map = 4.0 * static_cast<double>(rows * channels);
  const auto parameters = [=] {
    return BatchNormParameters<float>{weight.data<float>(), bias.data<float>(), nullptr};
  };
  add("kernel/batch_norm/forward_training" + end, limits, {0, 3 * map}, [=] {
    kernels.forward_training(y.data<float>(), mean.data<float>(), inv_std.data<float>(),
                             running_mean.data<float>(), running_var.data<float>(), x.data<float>(),
                             parameters(), shape, limits.queue());
  });
  add("kernel/batch_norm/grad_training" + end, limits, {0, 5 * map}, [=] {
    kernels.grad_training(dx.data<float>(), dweight.data<float>(), dbias.data<float>(), y.data<float>(),
                          x.data<float>(), mean.data<float>(), inv_std.data<float>(), parameters(), shape,
                          Write::overwrite, limits.queue());
  });
}

}  // namespace

void register_kernels(const Device& device, const Machine& machine) {
  const Limits limits{device, machine};
  add_sepconv({"W1.layer0", sepconv(32, 2, 16, 150, 18, 16, 21, 11, 0)}, limits);
  add_sepconv({"W1.layer1", sepconv(32, 16, 16, 130, 8, 6, 11, 5, 2)}, limits);
  add_sepconv({"W1s.layer0", sepconv(32, 1, 16, 50, 32, 32, 21, 11, 0)}, limits);
  add_sepconv({"W1s.layer1", sepconv(32, 16, 16, 30, 22, 22, 11, 5, 2)}, limits);
  add_sepconv({"A.layer0", sepconv(8, 1, 8, 50, 32, 32, 21, 11, 0)}, limits);
  add_matmul({3840, 41, 768}, limits);
  add_matmul({3840, 1000, 768}, limits);
  add_matmul({640, 113, 7744}, limits);
  add_matmul({256, 41, 166464}, limits);
  add_matmul({2048, 1000, 2304}, limits);
  add_batch_norm(199680, 16, limits);
  add_batch_norm(116160, 8, limits);
}

}  // namespace fovea::bench
