// fovea-sweep: how evenly the CPU kernels run over shapes. One size of a shape changes by one step at a time,
// the batch so that every shape has at least 50 MFLOP of useful work (taps inside the image).
//   fovea-sweep [--threads N] [--only sepconv3d.forward/kernel] [--check]
// Points are printed as size=GFLOP/s, and /GFLOP/s of the memory roof where that lies below the peak of
// multiply-adds. Attainable is the least of this roof (the rate of copies times operations per byte, every
// operand once) and of the best speed of the kernel in this run. Shapes that need a larger batch for 50 MFLOP
// are timed at batch 1 as well: "small", size=microseconds.
// --check: exit status 1 where speed/attainable (at most 1) changes by more than 2.2x between neighbours or
// lies below 1/4 (1/10 for 1 to 7 channels), or a small shape takes longer than 20 us plus that. A point that
// would fail is measured again first.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <variant>

#include "bench/gpu_work.hpp"
#include "bench/machine.hpp"
#include "engine/backend.hpp"
#include "engine/step_memory.hpp"
#include "fovea/random.hpp"
#include "fovea/tensor.hpp"

namespace fovea::bench {
namespace {

constexpr double least_flops = 50e6, most_change = 2.2, small_seconds = 20e-6;
const std::vector<std::int64_t> kernels{1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31};
const std::vector<std::int64_t> channels{1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 15, 16, 17,
                                         20, 24, 31, 32, 33, 40, 48, 63, 64, 65, 96, 128};
const std::vector<std::int64_t> maps{1,  2,  3,  4,  6,  8,   12,  16,  17, 24,
                                     32, 33, 48, 64, 96, 128, 192, 256, 512};
const std::vector<std::int64_t> depthwise_kernels{3, 4, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31};
const std::vector<std::int64_t> depthwise_channels{2,  3,  4,  5,  6,  7,  8,  9,  12, 15, 16,
                                                   17, 20, 24, 31, 32, 33, 48, 64, 65, 96, 128};
const std::vector<std::int64_t> matrices{8,  9,  15, 16,  17,  24,  32,  33,  41,  48,
                                         64, 65, 96, 128, 192, 256, 384, 512, 1024};

using Shape = std::variant<Conv3dShape, SepConv3dShape, MatmulShape>;

struct Line {
  std::string axis;
  std::vector<std::int64_t> values;
  std::function<Shape(std::int64_t)> shape;  // of batch 1
};

struct Family {
  std::string op;
  std::vector<std::string> passes;
  std::vector<Line> lines;
};

ConvAxis same(std::int64_t size, std::int64_t kernel) {
  return {size, kernel, 1, (kernel - 1) / 2, 1, size + 2 * ((kernel - 1) / 2) - kernel + 1};
}

Conv3dShape conv2d_shape(std::int64_t in, std::int64_t out, std::int64_t map, std::int64_t kernel) {
  return {1, in, out, 1, {1, 1, 1, 0, 1, 1}, same(map, kernel), same(map, kernel)};
}
Conv3dShape depthwise_shape(std::int64_t count, std::int64_t map, std::int64_t kernel) {
  return {1, count, count, count, {1, 1, 1, 0, 1, 1}, same(map, kernel), same(map, kernel)};
}
SepConv3dShape sepconv3d_shape(std::int64_t in, std::int64_t out, std::int64_t map, std::int64_t kt,
                               std::int64_t ks) {
  const std::int64_t pad = (ks - 1) / 2, size = map + 2 * pad - ks + 1;
  return {1, in, out, kt + 29, map, map, kt, ks, ks, 0, pad, pad, 30, size, size};
}
MatmulShape matmul_shape(std::int64_t m, std::int64_t n, std::int64_t k) { return {m, n, k}; }

const std::vector<std::string> convolutions{"forward", "grad_input", "grad_weight"};
const std::vector<Family> families{
    {"sepconv3d",
     convolutions,
     {{"kernel", kernels, [](auto n) { return sepconv3d_shape(8, 16, 20, 11, n); }},
      {"temporal_kernel", kernels, [](auto n) { return sepconv3d_shape(8, 16, 20, n, 5); }},
      {"in_channels", channels, [](auto n) { return sepconv3d_shape(n, 16, 20, 11, 5); }},
      {"out_channels", channels, [](auto n) { return sepconv3d_shape(8, n, 20, 11, 5); }},
      {"map", maps, [](auto n) { return sepconv3d_shape(4, 16, n, 11, 5); }}}},
    {"conv3d",
     convolutions,
     {{"kernel", kernels, [](auto n) { return conv2d_shape(16, 32, 36, n); }},
      {"in_channels", channels, [](auto n) { return conv2d_shape(n, 32, 36, 5); }},
      {"out_channels", channels, [](auto n) { return conv2d_shape(16, n, 36, 5); }},
      {"first_layer_kernel", kernels, [](auto n) { return conv2d_shape(1, 32, 64, n); }},
      {"pointwise_channels", channels, [](auto n) { return conv2d_shape(n, 64, 36, 1); }},
      {"map", maps, [](auto n) { return conv2d_shape(16, 32, n, 3); }}}},
    {"depthwise",
     convolutions,
     {{"kernel", depthwise_kernels, [](auto n) { return depthwise_shape(64, 36, n); }},
      {"channels", depthwise_channels, [](auto n) { return depthwise_shape(n, 36, 7); }},
      {"map", maps, [](auto n) { return depthwise_shape(64, n, 7); }}}},
    {"matmul",
     {"nn", "tn", "nt"},
     {{"m", matrices, [](auto n) { return matmul_shape(n, 2048, 2048); }},
      {"n", matrices, [](auto n) { return matmul_shape(2048, n, 2048); }},
      {"k", matrices, [](auto n) { return matmul_shape(2048, 2048, n); }}}}};

/// Of a shape of batch 1.
void give_enough_work(MatmulShape&) {}
template <class Convolution>
void give_enough_work(Convolution& s) {
  s.batch = std::max<std::int64_t>(1, static_cast<std::int64_t>(least_flops / detail::work_of(s).flops + 1));
}

double flops_of(const Shape& shape) {
  return std::visit([](const auto& sizes) { return detail::work_of(sizes).flops; }, shape);
}

/// A shape with its kernel calls.
struct Point {
  std::int64_t channels = 0;  // the fewest that it has
  double bytes = 0;           // of its operands
  std::vector<std::function<void()>> passes;
};

/// Random operands, whose bytes are added up.
struct Operands {
  const Device& device;
  double bytes = 0;

  Tensor operator()(std::int64_t count) {
    const Tensor tensor({count}, DType::f32, device);
    Random(5).normal(tensor);
    bytes += static_cast<double>(count) * sizeof(float);
    return tensor;
  }
};

Point point_of(const Conv3dShape& s, const Device& device) {
  Operands operand{device};
  const Tensor x = operand(s.batch * s.t.in * s.h.in * s.w.in * s.in_channels),
               y = operand(s.batch * s.t.out * s.h.out * s.w.out * s.out_channels),
               weight = operand(s.out_channels * (s.in_channels / s.groups) * s.t.kernel * s.h.kernel *
                                s.w.kernel);
  const auto* table = &tables<float>(device).conv3d;
  const Queue queue = device.backend().queue();
  return {std::min(s.in_channels, s.out_channels),
          operand.bytes,
          {[=] { table->forward(y.data<float>(), x.data<float>(), weight.data<float>(), nullptr, s, queue); },
           [=] {
             table->grad_input(x.data<float>(), y.data<float>(), weight.data<float>(), s, Write::overwrite,
                               queue);
           },
           [=] {
             table->grad_weight(weight.data<float>(), nullptr, y.data<float>(), x.data<float>(), s, queue);
           }}};
}

Point point_of(const SepConv3dShape& s, const Device& device) {
  Operands operand{device};
  const std::int64_t pairs = s.in_channels * s.out_channels;
  const Tensor x = operand(s.batch * s.in_t * s.in_h * s.in_w * s.in_channels),
               y = operand(s.batch * s.out_t * s.out_h * s.out_w * s.out_channels),
               spatial = operand(pairs * s.kernel_h * s.kernel_w), temporal = operand(pairs * s.kernel_t),
               dspatial = empty_like(spatial), dtemporal = empty_like(temporal);
  const auto* table = &tables<float>(device).sepconv3d;
  const Queue queue = device.backend().queue();
  return {std::min(s.in_channels, s.out_channels),
          operand.bytes,
          {[=] {
             table->forward(y.data<float>(), nullptr, x.data<float>(), spatial.data<float>(),
                            temporal.data<float>(), s, queue);
           },
           [=] {
             table->grad_input(x.data<float>(), y.data<float>(), spatial.data<float>(),
                               temporal.data<float>(), s, Write::overwrite, queue);
           },
           [=] {
             table->grad_weight(dspatial.data<float>(), dtemporal.data<float>(), y.data<float>(),
                                x.data<float>(), nullptr, spatial.data<float>(), temporal.data<float>(), s,
                                queue);
           }}};
}

Point point_of(const MatmulShape& s, const Device& device) {
  Operands operand{device};
  const Tensor a = operand(s.m * s.k), b = operand(s.k * s.n), c = operand(s.m * s.n);
  const auto* table = &tables<float>(device).matmul;
  const Queue queue = device.backend().queue();
  Point result{std::min(s.m, s.n), operand.bytes, {}};
  for (auto* form : {table->nn, table->tn, table->nt})
    result.passes.emplace_back(
        [=] { form(c.data<float>(), a.data<float>(), b.data<float>(), s, Write::overwrite, queue); });
  return result;
}

double seconds_of(const Device& device, const std::function<void()>& kernel) {
  constexpr double least_seconds = 5e-3;
  StepMemory memory(device);  // scratch memory stays, as in the steps of a training
  const auto call = [&] {
    const StepMemory::Scope scope(memory, "kernel");
    kernel();
  };
  for (int i = 0; i < 2; ++i) call();
  double best = 1e300, all = 0;
  for (int i = 0; i < 5 || all < least_seconds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::min(best, seconds);
    all += seconds;
  }
  return best;
}

struct Arguments {
  int threads = 0;
  std::string only;
  bool check = false;
};

/// A shape of a line, measured.
struct Measured {
  const Line* line;
  std::int64_t value, channels;
  bool small;                 // batch 1, too little work for the other limits
  double flops, memory_roof;  // FLOP, FLOP/s
  double seconds;

  double speed() const { return flops / seconds; }
  double attainable(double best) const { return std::min(best, memory_roof); }
  double share(double best) const { return std::min(1.0, speed() / attainable(best)); }
  bool slow(double best) const {
    const double least_speed = attainable(best) / (channels < 8 ? 10 : 4);
    return seconds > (small ? small_seconds : 0) + flops / least_speed;
  }
};

/// The kernel of one pass of a family.
struct Kernel {
  const Device& device;
  const Machine& machine;
  const Family& family;
  std::size_t pass;

  std::string name(const Line& line) const { return family.op + "." + family.passes[pass] + "/" + line.axis; }

  Measured measure(const Line& line, std::int64_t value, bool small) const {
    Shape shape = line.shape(value);
    if (!small) std::visit([](auto& sizes) { give_enough_work(sizes); }, shape);
    const Point point = std::visit([&](const auto& sizes) { return point_of(sizes, device); }, shape);
    const double gradients = family.op == "sepconv3d" && family.passes[pass] == "grad_weight" ? 2 : 1;
    const double flops = gradients * flops_of(shape);
    return {&line,
            value,
            point.channels,
            small,
            flops,
            flops / point.bytes * machine.bytes_per_second,
            seconds_of(device, point.passes[pass])};
  }

  std::vector<Measured> sweep(const Line& line) const {
    std::vector<Measured> points;
    std::printf("%s:", name(line).c_str());
    for (const std::int64_t value : line.values) {
      const Measured& point = points.emplace_back(measure(line, value, false));
      std::printf(" %lld=%.0f", static_cast<long long>(value), point.speed() / 1e9);
      if (point.memory_roof < machine.flops) std::printf("/%.0f", point.memory_roof / 1e9);
      std::fflush(stdout);
    }
    const char* title = "\n  small, us:";
    for (const std::int64_t value : line.values)
      if (flops_of(line.shape(value)) < least_flops) {
        const Measured& point = points.emplace_back(measure(line, value, true));
        std::printf("%s %lld=%.3g", title, static_cast<long long>(value), 1e6 * point.seconds);
        std::fflush(stdout);
        title = "";
      }
    std::printf("\n");
    return points;
  }

  /// Measures again what lies outside the limits; what stays there is printed and counted.
  int judge(std::vector<Measured>& points, double best) const {
    constexpr int attempts = 4;
    int wrong = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      Measured& point = points[i];
      Measured& previous = points[i == 0 || point.small ? i : i - 1];
      const auto change = [&] {
        const double ratio = point.share(best) / previous.share(best);
        return std::max(ratio, 1 / ratio);
      };
      const auto outside = [&] { return point.slow(best) || change() > most_change; };
      for (int attempt = 0; attempt < attempts && outside(); ++attempt) {
        Measured& slower = point.slow(best) || point.share(best) < previous.share(best) ? point : previous;
        slower.seconds = std::min(slower.seconds, measure(*slower.line, slower.value, slower.small).seconds);
      }
      if (!outside()) continue;
      ++wrong;
      std::printf("! %s%s %lld: %.0f GFLOP/s in %.0f us, attainable %.0f, %.2fx beside its neighbour\n",
                  name(*point.line).c_str(), point.small ? " small" : "", static_cast<long long>(point.value),
                  point.speed() / 1e9, 1e6 * point.seconds, point.attainable(best) / 1e9, change());
    }
    return wrong;
  }
};

int run(const Arguments& arguments) {
  const Device device = cpu_device(arguments.threads);
  const Machine machine = measure(device);
  std::printf("%s, %d threads, %.0f GFLOP/s of multiply-adds, %.1f GB/s of copies\n",
              to_string(device.isa()).c_str(), device.threads(), machine.flops / 1e9,
              machine.bytes_per_second / 1e9);
  int wrong = 0;
  for (const Family& family : families)
    for (std::size_t pass = 0; pass < family.passes.size(); ++pass) {
      const Kernel kernel{device, machine, family, pass};
      double best = 0;
      std::vector<std::vector<Measured>> lines;
      for (const Line& line : family.lines) {
        if (kernel.name(line).find(arguments.only) == std::string::npos) continue;
        for (const Measured& point : lines.emplace_back(kernel.sweep(line)))
          best = std::max(best, point.speed());
      }
      if (lines.empty()) continue;
      std::printf("%s.%s: best %.0f GFLOP/s\n", family.op.c_str(), family.passes[pass].c_str(), best / 1e9);
      for (std::vector<Measured>& points : lines) wrong += kernel.judge(points, best);
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
