// The elementwise CUDA kernels: sums, products, layout changes, constraints, optimizer, random numbers.
#include <limits>

#include "tests/gpu_kernels.hpp"
// Last: it defines words of CUDA as macros.
#include "kernels/cuda/division.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// Every tail of a float4, one block of 256 fours and several.
const std::vector<std::int64_t> counts{1, 2, 3, 4, 5, 255, 1024, 1027, 2310};

const std::vector<Write> modes{Write::overwrite, Write::accumulate};

std::vector<float> before(std::int64_t count, Write mode) {
  return mode == Write::accumulate ? random_whole(size(count), 9) : std::vector<float>{};
}

}  // namespace

// ---- sums, products, copies
// ------------------------------------------------------------------------------------

TEST_CASE("CUDA sums, products and magnitudes of any number of values") {
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    for (const Write mode : modes) {
      const Inputs whole{random_whole(size(count), 1), random_whole(size(count), 2)};
      const Inputs inputs{random_normal(size(count), 1), random_normal(size(count), 2)};
      check_gpu_kernel(whole, {{size(count), 0, {0}, before(count, mode)}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.elementwise.add(out[0], in[0], count, mode, queue);
                       });
      const auto scale = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.elementwise.scale(out[0], in[0], 0.7, count, mode, queue);
      };
      const auto multiply = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.elementwise.multiply(out[0], in[0], in[1], count, mode, queue);
      };
      check_gpu_kernel(whole, {{size(count), 0, {0}, before(count, mode)}}, multiply);
      std::vector<KernelOutput> outputs{{size(count), 0, {0}, before(count, mode)}};
      bound_outputs(outputs, inputs, 3, scale);  // the factor rounds too
      check_gpu_kernel(inputs, outputs, scale);
      bound_outputs(outputs, inputs, 2, multiply);
      check_gpu_kernel(inputs, outputs, multiply);
    }
    check_gpu_kernel({}, {{size(count), 0, {0}, random_normal(size(count), 3)}},
                     [&](const auto& tables, auto, auto out, const Queue& queue) {
                       tables.elementwise.absolute(out[0], count, queue);
                     });
  }
}

TEST_CASE("CUDA clamping in place, one-sided too; NaN stays") {
  for (const std::int64_t count : counts)
    for (const auto& [least, most] :
         {std::pair{-0.5, 0.75}, std::pair{0.0, infinity}, std::pair{-infinity, 0.25}}) {
      CAPTURE(count);
      check_gpu_kernel({}, {{size(count), 0, {0}, random_normal(size(count), 3)}},
                       [&, low = least, high = most](const auto& tables, auto, auto out, const Queue& queue) {
                         tables.elementwise.clamp(out[0], low, high, count, queue);
                       });
    }
  for (std::size_t place = 0; place < 6; ++place) {
    std::vector<float> x(6, 2.0f);
    x[place] = std::nanf("");
    const auto clamped =
        gpu_outputs({}, {{6, 0, {0}, x}}, [&](const auto& tables, auto, auto out, const Queue& queue) {
          tables.elementwise.clamp(out[0], -1, 1, 6, queue);
        })[0];
    for (std::size_t i = 0; i < 6; ++i) CHECK((i == place ? std::isnan(clamped[i]) : clamped[i] == 1.0f));
  }
}

TEST_CASE("CUDA copies of channels touch nothing else") {
  for (const ChannelCopy& s :
       {ChannelCopy{1, 1, 1, 0, 1, 0}, ChannelCopy{5, 3, 7, 2, 3, 0}, ChannelCopy{5, 3, 3, 0, 9, 4},
        ChannelCopy{17, 16, 40, 8, 32, 16}, ChannelCopy{17, 16, 40, 11, 32, 16},
        ChannelCopy{3, 1, 64, 63, 1, 0}, ChannelCopy{4, 0, 5, 5, 3, 1}, ChannelCopy{0, 3, 5, 1, 3, 0},
        ChannelCopy{300, 8, 24, 8, 8, 0}, ChannelCopy{2, 2000, 2001, 1, 2003, 2}}) {
    CAPTURE(s.rows);
    CAPTURE(s.count);
    const std::size_t outputs = size(std::max<std::int64_t>(1, s.rows * s.y_channels));
    for (const Write mode : modes)
      check_gpu_kernel({random_whole(size(std::max<std::int64_t>(1, s.rows * s.x_channels)), 1)},
                       {{outputs, 0, {0}, random_whole(outputs, 2)}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.elementwise.copy_channels(out[0], in[0], s, mode, queue);
                       });
  }
}

TEST_CASE("CUDA layout changes of any shape") {
  for (const PermuteShape& s :
       {PermuteShape{1, 1, 1},   PermuteShape{3, 1, 37},   PermuteShape{2, 41, 1},   PermuteShape{1, 32, 32},
        PermuteShape{2, 33, 65}, PermuteShape{1, 100, 70}, PermuteShape{2, 2, 1100}, PermuteShape{1, 3, 300},
        PermuteShape{1, 7, 131}, PermuteShape{1, 13, 67},  PermuteShape{2, 1100, 2}, PermuteShape{1, 300, 3},
        PermuteShape{1, 131, 7}, PermuteShape{1, 67, 13},  PermuteShape{300, 2, 2},  PermuteShape{21, 7, 7},
        PermuteShape{5, 16, 49}, PermuteShape{5, 49, 16},  PermuteShape{30, 2, 49},  PermuteShape{30, 49, 2},
        PermuteShape{0, 4, 5}}) {
    CAPTURE(s.batch);
    CAPTURE(s.rows);
    CAPTURE(s.columns);
    const std::size_t count = size(std::max<std::int64_t>(1, s.batch * s.rows * s.columns));
    for (const Write mode : modes) {
      std::vector<float> initial = random_normal(count, 2);
      if (mode == Write::accumulate) initial = random_whole(count, 2);
      check_gpu_kernel({mode == Write::accumulate ? random_whole(count, 1) : random_normal(count, 1)},
                       {{count, 0, {0}, initial}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.elementwise.permute(out[0], in[0], s, mode, queue);
                       });
    }
  }
}

TEST_CASE("the CUDA norm constraint in place") {
  for (const NormShape& s :
       {NormShape{1, 1, 1, 1e-5}, NormShape{7, 49, 1, 1e-5}, NormShape{1, 16, 41, 1e-5},
        NormShape{6, 5, 9, 0.5}, NormShape{3, 700, 2, 1e-5}, NormShape{2, 600, 1, 1e-5}}) {
    CAPTURE(s.outer);
    CAPTURE(s.reduced);
    CAPTURE(s.inner);
    const std::size_t count = size(s.outer * s.reduced * s.inner);
    // The norm rounds once, the quotient once.
    check_gpu_kernel({}, {{count, rounding_bound<float>(1, 2.01), {0}, random_normal(count, 3)}},
                     [&](const auto& tables, auto, auto out, const Queue& queue) {
                       tables.elementwise.unit_norm(out[0], s, queue);
                     });
  }
}

// ---- optimizer
// -------------------------------------------------------------------------------------------------

namespace {

/// Upper bounds of the roundings of one step: those of moments by their terms, of the root by that of the
/// second moment, of the parameter by its decay and its change.
std::vector<KernelOutput> adamw_outputs(const Inputs& start, const std::vector<float>& gradient,
                                        const AdamWStep& step) {
  const std::size_t count = gradient.size();
  std::vector<KernelOutput> outputs;
  for (const auto& initial : start) outputs.push_back({count, 0, std::vector<double>(count), initial});
  const double steps = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(step.beta1, steps), correction2 = 1 - std::pow(step.beta2, steps);
  for (std::size_t i = 0; i < count; ++i) {
    const double g = std::abs(step.gradient_scale * gradient[i]), m = std::abs(start[1][i]), v = start[2][i];
    const double first = rounding_bound<float>((1 - step.beta1) * (g + m) + m, 5);
    const double second = rounding_bound<float>(step.beta2 * v + (1 - step.beta2) * g * g, 6);
    const double root = std::sqrt((step.beta2 * v + (1 - step.beta2) * g * g) / correction2) + step.eps;
    const double size = step.learning_rate / correction1, largest = m + g;
    outputs[0].bounds[i] = rounding_bound<float>(std::abs(start[0][i]), 3) + size * first / root +
                           rounding_bound<float>(size * largest / root, 12);
    outputs[1].bounds[i] = first;
    outputs[2].bounds[i] = second;
  }
  return outputs;
}

}  // namespace

TEST_CASE("AdamW on CUDA for any number of parameters, with and without decay and clipping") {
  for (const std::int64_t count : counts)
    for (const AdamWStep& step :
         {AdamWStep{1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1}, AdamWStep{0.01, 0.8, 0.99, 1e-4, 0, 1000, 0.25}}) {
      CAPTURE(count);
      CAPTURE(step.step);
      const std::vector<float> gradient = random_normal(size(count), 1);
      Inputs start{random_normal(size(count), 2), random_normal(size(count), 3),
                   random_normal(size(count), 4)};
      for (float& value : start[2]) value = value * value;
      check_gpu_kernel({gradient}, adamw_outputs(start, gradient, step),
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.optimizer.adamw(out[0], out[1], out[2], in[0], count, step, queue);
                       });
    }
}

TEST_CASE("the CUDA sum of squares, in any range, of one block and of many") {
  // 1024 blocks of 4096 values, then one more: blocks go round.
  for (const std::int64_t count : {1, 3, 4096, 4097, 12289, 4194304 + 5}) {
    CAPTURE(count);
    std::vector<float> x = random_normal(size(count), 1, 0, 1e25);
    const bool many = count > 100000;
    double expected = 0;
    reference_tables<float>().optimizer.sum_of_squares(&expected, x.data(), count,
                                                       cpu_device(1, Isa::reference).backend().queue());
    const auto run = [&](const Device& device, std::size_t offset) {
      const DeviceBuffer buffer(device, x, offset, true);
      double sum = -1;
      tables<float>(device).optimizer.sum_of_squares(&sum, buffer.data(), count, device.backend().queue());
      return sum;
    };
    const double first = run(emulator_device(), 0);
    CHECK(std::abs(first - expected) <= expected * 1e-16 * static_cast<double>(count));
    CHECK(first == run(emulator_device(2, 1), 1));
    if (!many) CHECK(first == run(emulator_device(1, 20), 0));
    if (test::gpu())
      for (const std::size_t offset : {0u, 1u}) CHECK(first == run(*test::gpu(), offset));
  }
  double sum = -1;
  const Device device = emulator_device();
  tables<float>(device).optimizer.sum_of_squares(&sum, nullptr, 0, device.backend().queue());
  CHECK(sum == 0);
}

// ---- random numbers
// --------------------------------------------------------------------------------------------

TEST_CASE("CUDA random numbers are those of the reference, bit for bit") {
  const RandomKey key{0x123456789abcdefull, 3, 70000, 2};
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    const auto check = [&](const auto& run) {
      const Device host = cpu_device(1, Isa::reference);
      const std::vector<KernelOutput> outputs{{size(count), 0}};
      const auto expected = kernel_outputs(reference_tables<float>(), host, {}, outputs, run)[0];
      CHECK(same_bits(expected, device_outputs(emulator_device(), {}, outputs, 0, run)[0]));
      check_gpu_kernel({}, outputs, run);  // what f64 gives is what f32 gives
    };
    check([&](const auto& tables, auto, auto out, const Queue& queue) {
      tables.random.uniform(out[0], count, -0.5, 0.25, key, queue);
    });
    check([&](const auto& tables, auto, auto out, const Queue& queue) {
      tables.random.normal(out[0], count, 0.3, 2.5, key, queue);
    });
    for (const double p : {0.0, 0.5, 0.875})
      check([&](const auto& tables, auto, auto out, const Queue& queue) {
        tables.random.dropout_factors(out[0], count, p, key, queue);
      });
  }
}

// ---- index arithmetic
// ------------------------------------------------------------------------------------------

TEST_CASE("division by a number known at launch is exact up to 2^31, and beyond in the slow way") {
  constexpr std::int64_t edge = std::int64_t{1} << 31;
  std::vector<std::int64_t> numbers{0, 1, 2, 3, 6, 7, 8, 9, 12345, 65535, 65536, 65537, 1000003, edge / 3};
  for (const std::int64_t number : {edge / 2, edge, 3 * edge, edge * edge / 8})
    for (const std::int64_t near : {-1, 0, 1}) numbers.push_back(number + near);
  for (const std::int64_t divisor : numbers) {
    if (divisor == 0) continue;
    const emulated::Divisor by(divisor);
    for (const std::int64_t number : numbers)
      for (const std::int64_t n :
           {number, number / divisor * divisor, number / divisor * divisor + divisor - 1}) {
        const emulated::Division result = by(n);
        CHECK((result.quotient == n / divisor && result.remainder == n % divisor));
      }
  }
}
