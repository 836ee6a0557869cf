// fovea-sweep: how evenly the CPU kernels run over shapes. One size of a shape changes by one step at a time,
// the batch so that every shape has at least 50 MFLOP of useful work (taps inside the image).
//   fovea-sweep [--threads N] [--only sepconv3d.forward/kernel] [--check]
// --check: exit status 1 where the time of a useful operation changes by more than 2.2x between neighbours,
// or the speed is below a quarter of the best of its kernel (a tenth for 1 to 7 channels).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>

#include "bench/gpu_work.hpp"
#include "bench/machine.hpp"
#include "engine/backend.hpp"
#include "fovea/random.hpp"
#include "fovea/tensor.hpp"

namespace fovea::bench {
namespace {

constexpr double least_flops = 50e6, most_change = 2.2;

const std::vector<std::int64_t> kernels{1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31};
const std::vector<std::int64_t> channels{1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 15, 16, 17,
                                         20, 24, 31, 32, 33, 40, 48, 63, 64, 65, 96, 128};
const std::vector<std::int64_t> maps{1,  2,  3,  4,  6,  8,   12,  16,  17, 24,
                                     32, 33, 48, 64, 96, 128, 192, 256, 512};

/// A shape with its kernel calls.
struct Point {
  double flops = 0;           // of one pass
  std::int64_t channels = 0;  // the fewest that it has
  std::vector<std::function<void()>> passes;
};

struct Line {
  std::string axis;
  std::vector<std::int64_t> values;
  std::function<Point(std::int64_t)> point;
};

struct Family {
  std::string op;
  std::vector<std::string> passes;
  std::vector<Line> lines;
};

Tensor random_tensor(std::int64_t count, const Device& device) {
  const Tensor tensor({count}, DType::f32, device);
  Random(5).normal(tensor);
  return tensor;
}

/// The batch that gives a shape of batch 1 enough work, and the shape with it.
template <class Shape>
Shape with_enough_work(Shape shape) {
  shape.batch = 1;
  const double flops = detail::work_of(shape).flops;
  shape.batch = std::max<std::int64_t>(1, static_cast<std::int64_t>(least_flops / flops + 1));
  return shape;
}

std::int64_t pixels_in(const Conv3dShape& s) { return s.batch * s.t.in * s.h.in * s.w.in; }
std::int64_t pixels_out(const Conv3dShape& s) { return s.batch * s.t.out * s.h.out * s.w.out; }

Point conv3d_point(const Device& device, Conv3dShape shape) {
  const Conv3dShape s = with_enough_work(shape);
  const std::int64_t weights =
      s.out_channels * (s.in_channels / s.groups) * s.t.kernel * s.h.kernel * s.w.kernel;
  const Tensor x = random_tensor(pixels_in(s) * s.in_channels, device),
               y = random_tensor(pixels_out(s) * s.out_channels, device),
               weight = random_tensor(weights, device);
  const auto* table = &tables<float>(device).conv3d;
  const Queue queue = device.backend().queue();
  return {detail::work_of(s).flops,
          std::min(s.in_channels, s.out_channels),
          {[=] { table->forward(y.data<float>(), x.data<float>(), weight.data<float>(), nullptr, s, queue); },
           [=] {
             table->grad_input(x.data<float>(), y.data<float>(), weight.data<float>(), s, Write::overwrite,
                               queue);
           },
           [=] { table->grad_weight(weight.data<float>(), y.data<float>(), x.data<float>(), s, queue); }}};
}

ConvAxis same(std::int64_t size, std::int64_t kernel) {
  return {size, kernel, 1, (kernel - 1) / 2, 1, size + 2 * ((kernel - 1) / 2) - kernel + 1};
}

Family conv2d(const Device& device) {
  const auto point = [=](std::int64_t in, std::int64_t out, std::int64_t map, std::int64_t kernel) {
    const ConvAxis flat{1, 1, 1, 0, 1, 1}, axis = same(map, kernel);
    return conv3d_point(device, {1, in, out, 1, flat, axis, axis});
  };
  return {"conv3d",
          {"forward", "grad_input", "grad_weight"},
          {{"kernel", kernels, [=](std::int64_t n) { return point(16, 32, 36, n); }},
           {"in_channels", channels, [=](std::int64_t n) { return point(n, 32, 36, 5); }},
           {"out_channels", channels, [=](std::int64_t n) { return point(16, n, 36, 5); }},
           {"first_layer_kernel", kernels, [=](std::int64_t n) { return point(1, 32, 64, n); }},
           {"pointwise_channels", channels, [=](std::int64_t n) { return point(n, 64, 36, 1); }},
           {"map", maps, [=](std::int64_t n) { return point(16, 32, n, 3); }}}};
}

Family depthwise(const Device& device) {
  const auto point = [=](std::int64_t count, std::int64_t map, std::int64_t kernel) {
    const ConvAxis flat{1, 1, 1, 0, 1, 1}, axis = same(map, kernel);
    return conv3d_point(device, {1, count, count, count, flat, axis, axis});
  };
  return {"depthwise",
          {"forward", "grad_input", "grad_weight"},
          {{"kernel",
            {3, 4, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31},
            [=](std::int64_t n) { return point(64, 36, n); }},
           {"channels",
            {2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 64, 65, 96, 128},
            [=](std::int64_t n) { return point(n, 36, 7); }},
           {"map", maps, [=](std::int64_t n) { return point(64, n, 7); }}}};
}

Point sepconv_point(const Device& device, std::int64_t in, std::int64_t out, std::int64_t map,
                    std::int64_t kt, std::int64_t ks) {
  const std::int64_t frames = kt + 29, pad = (ks - 1) / 2, size = map + 2 * pad - ks + 1;
  const SepConv3dShape s =
      with_enough_work(SepConv3dShape{1, in, out, frames, map, map, kt, ks, ks, 0, pad, pad, 30, size, size});
  const Tensor x = random_tensor(s.batch * frames * map * map * in, device),
               y = random_tensor(s.batch * 30 * size * size * out, device),
               spatial = random_tensor(in * out * ks * ks, device),
               temporal = random_tensor(in * out * kt, device), dspatial = empty_like(spatial),
               dtemporal = empty_like(temporal);
  const auto* table = &tables<float>(device).sepconv3d;
  const Queue queue = device.backend().queue();
  return {detail::work_of(s).flops,
          std::min(in, out),
          {[=] {
             table->forward(y.data<float>(), x.data<float>(), spatial.data<float>(), temporal.data<float>(),
                            s, queue);
           },
           [=] {
             table->grad_input(x.data<float>(), y.data<float>(), spatial.data<float>(),
                               temporal.data<float>(), s, Write::overwrite, queue);
           },
           [=] {
             table->grad_weight(dspatial.data<float>(), dtemporal.data<float>(), y.data<float>(),
                                x.data<float>(), spatial.data<float>(), temporal.data<float>(), s, queue);
           }}};
}

Family sepconv3d(const Device& device) {
  return {
      "sepconv3d",
      {"forward", "grad_input", "grad_weight"},
      {{"kernel", kernels, [=](std::int64_t n) { return sepconv_point(device, 8, 16, 20, 11, n); }},
       {"temporal_kernel", kernels, [=](std::int64_t n) { return sepconv_point(device, 8, 16, 20, n, 5); }},
       {"in_channels", channels, [=](std::int64_t n) { return sepconv_point(device, n, 16, 20, 11, 5); }},
       {"out_channels", channels, [=](std::int64_t n) { return sepconv_point(device, 8, n, 20, 11, 5); }},
       {"map", maps, [=](std::int64_t n) { return sepconv_point(device, 4, 16, n, 11, 5); }}}};
}

Family matmul(const Device& device) {
  const auto point = [=](std::int64_t m, std::int64_t n, std::int64_t k) {
    const MatmulShape s{m, n, k};
    const Tensor a = random_tensor(m * k, device), b = random_tensor(k * n, device),
                 c = random_tensor(m * n, device);
    const auto* table = &tables<float>(device).matmul;
    const Queue queue = device.backend().queue();
    Point result{detail::work_of(s).flops, std::min(m, n), {}};
    for (auto* form : {table->nn, table->tn, table->nt})
      result.passes.emplace_back(
          [=] { form(c.data<float>(), a.data<float>(), b.data<float>(), s, Write::overwrite, queue); });
    return result;
  };
  const std::vector<std::int64_t> sizes{8,  9,  15, 16,  17,  24,  32,  33,  41,  48,
                                        64, 65, 96, 128, 192, 256, 384, 512, 1024};
  return {"matmul",
          {"nn", "tn", "nt"},
          {{"m", sizes, [=](std::int64_t n) { return point(n, 2048, 2048); }},
           {"n", sizes, [=](std::int64_t n) { return point(2048, n, 2048); }},
           {"k", sizes, [=](std::int64_t n) { return point(2048, 2048, n); }}}};
}

double seconds_of(const std::function<void()>& call) {
  call();
  double best = 1e300;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

struct Arguments {
  int threads = 0;
  std::string only;
  bool check = false;
};

/// What was wrong with the points of a line, whose speeds are FLOP/s.
int judge(const std::string& name, const Line& line, const std::vector<double>& speeds,
          const std::vector<std::int64_t>& fewest, double best) {
  int wrong = 0;
  for (std::size_t i = 0; i < speeds.size(); ++i) {
    const double change = i == 0 ? 1 : std::max(speeds[i] / speeds[i - 1], speeds[i - 1] / speeds[i]);
    const bool slow = speeds[i] < best / (fewest[i] < 8 ? 10 : 4);
    if (change <= most_change && !slow) continue;
    ++wrong;
    std::printf("! %s %lld: %.0f GFLOP/s, %.2fx beside its neighbour, %.0f %% of the best\n", name.c_str(),
                static_cast<long long>(line.values[i]), speeds[i] / 1e9, change, 100 * speeds[i] / best);
  }
  return wrong;
}

int run(const Arguments& arguments) {
  const Device device = cpu_device(arguments.threads);
  const double peak = measure(device).flops;
  std::printf("%s, %d threads, %.0f GFLOP/s of multiply-adds\n", to_string(device.isa()).c_str(),
              device.threads(), peak / 1e9);
  int wrong = 0;
  for (const Family& family : {sepconv3d(device), conv2d(device), depthwise(device), matmul(device)})
    for (std::size_t pass = 0; pass < family.passes.size(); ++pass) {
      double best = 0;
      std::vector<std::vector<double>> speeds(family.lines.size());
      std::vector<std::vector<std::int64_t>> fewest(family.lines.size());
      const auto name_of = [&](const Line& line) {
        return family.op + "." + family.passes[pass] + "/" + line.axis;
      };
      for (std::size_t l = 0; l < family.lines.size(); ++l) {
        const Line& line = family.lines[l];
        if (name_of(line).find(arguments.only) == std::string::npos) continue;
        std::printf("%s:", name_of(line).c_str());
        for (const std::int64_t value : line.values) {
          const Point point = line.point(value);
          const double factor = family.op == "sepconv3d" && family.passes[pass] == "grad_weight" ? 2 : 1;
          speeds[l].push_back(factor * point.flops / seconds_of(point.passes[pass]));
          fewest[l].push_back(point.channels);
          best = std::max(best, speeds[l].back());
          std::printf(" %lld=%.0f", static_cast<long long>(value), speeds[l].back() / 1e9);
          std::fflush(stdout);
        }
        std::printf("\n");
      }
      for (std::size_t l = 0; l < family.lines.size(); ++l)
        if (!speeds[l].empty())
          wrong += judge(name_of(family.lines[l]), family.lines[l], speeds[l], fewest[l], best);
    }
  std::printf("%d outside the limits\n", wrong);
  return arguments.check && wrong ? 1 : 0;
}

Arguments parse(int count, char** arguments) {
  Arguments parsed;
  for (int i = 1; i < count; ++i) {
    const std::string option = arguments[i];
    if (option == "--check")
      parsed.check = true;
    else if (option == "--threads" && i + 1 < count)
      parsed.threads = std::atoi(arguments[++i]);
    else if (option == "--only" && i + 1 < count)
      parsed.only = arguments[++i];
    else
      throw ConfigError("arguments", "fovea-sweep [--threads N] [--only sepconv3d.forward/kernel] [--check]");
  }
  return parsed;
}

}  // namespace
}  // namespace fovea::bench

int main(int count, char** arguments) {
  try {
    return fovea::bench::run(fovea::bench::parse(count, arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fovea-sweep: %s\n", error.what());
    return 2;
  }
}
