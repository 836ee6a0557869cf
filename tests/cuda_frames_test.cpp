// The CUDA kernels of pooling, channel dropout, dropped frames, gathered entries and normalized rows.
#include "tests/frames_cases.hpp"
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

/// Whole numbers in the memory of a queue's device.
template <class Integer>
class DeviceIntegers {
 public:
  DeviceIntegers(const Queue& queue, const std::vector<Integer>& values)
      : memory_(*queue.backend->memory), bytes_(values.size() * sizeof(Integer)) {
    data_ = static_cast<Integer*>(memory_.allocate(bytes_));
    memory_.copy_from_host(data_, values.data(), bytes_);
  }
  DeviceIntegers(const DeviceIntegers&) = delete;
  DeviceIntegers& operator=(const DeviceIntegers&) = delete;
  ~DeviceIntegers() { memory_.release(data_, bytes_); }

  Integer* data() const { return data_; }

 private:
  Memory& memory_;
  std::size_t bytes_;
  Integer* data_ = nullptr;
};

/// One value, incomplete windows along every axis, channels in fours and not, several blocks.
std::vector<PoolShape> pools() {
  return {pool_of(1, 1, 1, 1, 1, 1, 1, 1),   pool_of(2, 1, 6, 9, 3, 1, 2, 2),
          pool_of(1, 5, 5, 7, 8, 2, 2, 3),   pool_of(2, 3, 7, 4, 5, 3, 3, 1),
          pool_of(3, 1, 36, 32, 4, 1, 2, 2), pool_of(1, 2, 3, 3, 16, 2, 3, 3),
          pool_of(1, 4, 1, 1, 4, 3, 1, 1)};
}

}  // namespace

// ---- frames
// ----------------------------------------------------------------------------------------------------

TEST_CASE("CUDA maximum pools find the first of the largest values") {
  for (const PoolShape& s : pools()) {
    INFO(text_of(s));
    // whole numbers tie
    for (const auto& x : {random_normal(inputs_of(s), 1), random_whole(inputs_of(s), 1)})
      check_gpu_kernel({x}, {{outputs_of(s), 0}, {outputs_of(s), 0}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         run_max_pool(tables, out[0], out[1], in[0], s, queue);
                       });
  }
}

TEST_CASE("NaN is the maximum of a CUDA pool") {
  const PoolShape s = pool_of(1, 1, 2, 6, 1, 1, 2, 3);
  const float nan = std::nanf("");
  const auto y = gpu_outputs({{1, nan, 7, 3, 2, 1, 9, 2, 0, 5, 4, nan}}, {{2, 0}, {2, 0}},
                             [&](const auto& tables, auto in, auto out, const Queue& queue) {
                               run_max_pool(tables, out[0], out[1], in[0], s, queue);
                             });
  CHECK(std::isnan(y[0][0]));
  CHECK(std::isnan(y[0][1]));
  CHECK(__builtin_bit_cast(std::int32_t, y[1][0]) == 1);
  CHECK(__builtin_bit_cast(std::int32_t, y[1][1]) == 5);
}

TEST_CASE("CUDA gradients of maximum pools go to the maximum alone") {
  for (const PoolShape& s : pools())
    for (const Write mode : write_modes) {
      INFO(text_of(s));
      const std::vector<std::int32_t> index = some_places(s);
      check_gpu_kernel({random_whole(outputs_of(s), 1)}, {{inputs_of(s), 0, {0}, before(inputs_of(s), mode)}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         const DeviceIntegers<std::int32_t> positions(queue, index);
                         tables.frames.max_pool_grad(out[0], in[0], positions.data(), s, mode, queue);
                       });
    }
}

TEST_CASE("CUDA average pools and their gradients") {
  for (const PoolShape& s : pools()) {
    INFO(text_of(s));
    const auto taps = static_cast<double>(s.kernel_t * s.kernel_h * s.kernel_w);
    const auto forward = [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.frames.average_pool(out[0], in[0], s, queue);
    };
    const Inputs x{random_normal(inputs_of(s), 1)}, dy{random_normal(outputs_of(s), 2)};
    std::vector<KernelOutput> y{{outputs_of(s), 0}};
    bound_outputs(y, x, taps + 1, forward);
    check_gpu_kernel(x, y, forward);
    for (const Write mode : write_modes) {
      const auto grad = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.frames.average_pool_grad(out[0], in[0], s, mode, queue);
      };
      std::vector<KernelOutput> dx{{inputs_of(s), 0, {0}, before(inputs_of(s), mode)}};
      bound_outputs(dx, dy, 2.01, grad);
      check_gpu_kernel(dy, dx, grad);
    }
  }
}

TEST_CASE("CUDA channel dropout") {
  for (const ChannelDropout& c : {ChannelDropout{1, 1, 1}, {3, 7, 5}, {2, 50, 16}, {4, 90, 4}, {0, 3, 4}})
    for (const Write mode : write_modes) {
      CAPTURE(c.channels);
      check_gpu_kernel({random_whole(c.count(), 1), random_whole(size(c.batch * c.channels + 1), 2)},
                       {{c.count(), 0, {0}, random_whole(c.count(), 9)}},
                       ChannelDropout{c.batch, c.inner, c.channels, mode});
    }
}

TEST_CASE("CUDA slices of frames, and their gradients with zeros around them") {
  for (const Slice& c :
       {Slice{1, 1, 1, 0, 1}, {2, 9, 5, 3, 4}, {3, 12, 16, 0, 12}, {2, 30, 24, 20, 10}, {1, 7, 4, 2, 1}}) {
    CAPTURE(c.inner);
    check_gpu_kernel({random_normal(c.all(), 1)}, {{c.some(), 0}}, c);
    for (const Write mode : write_modes)
      check_gpu_kernel({random_whole(c.some(), 1)}, {{c.all(), 0, {0}, before(c.all(), mode)}},
                       SliceGradient{c, mode});
  }
}

// ---- gather
// ----------------------------------------------------------------------------------------------------

namespace {

std::vector<std::int64_t> choices(const GatherShape& s, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::int64_t> index(size(s.count));
  for (auto& entry : index) entry = static_cast<std::int64_t>(generator() % size(s.source));
  return index;
}

void check_gather(const GatherShape& s, bool whole, bool scaled) {
  CAPTURE(s.outer);
  CAPTURE(s.source);
  CAPTURE(s.count);
  CAPTURE(s.inner);
  const std::vector<std::int64_t> index = choices(s, 5);
  const auto random = [&](std::int64_t count, unsigned seed) {
    return whole ? random_whole(size(count), seed) : random_normal(size(count), seed);
  };
  const std::int64_t sources = s.outer * s.source * s.inner, chosen = s.outer * s.count * s.inner;
  const Inputs inputs{random(sources, 1), random(chosen, 2), random(s.count, 3)};
  const auto forward = [&](const auto& tables, auto in, auto out, const Queue& queue) {
    const DeviceIntegers<std::int64_t> entries(queue, index);
    tables.gather.forward(out[0], in[0], entries.data(), scaled ? in[2] : nullptr, s, queue);
  };
  std::vector<KernelOutput> y{{size(chosen), 0}};
  if (!whole) bound_outputs(y, inputs, 1.01, forward);
  check_gpu_kernel(inputs, y, forward);
  const double terms = static_cast<double>(s.count) + 2;  // of a sum over all choices
  for (const Write mode : write_modes) {
    const auto grad = [&](const auto& tables, auto in, auto out, const Queue& queue) {
      const DeviceIntegers<std::int64_t> entries(queue, index);
      tables.gather.grad(out[0], out[1], in[1], in[0], entries.data(), scaled ? in[2] : nullptr, s, mode,
                         mode, queue);
    };
    std::vector<KernelOutput> both{{size(sources), 0}, {size(s.count), 0}};
    if (mode == Write::accumulate) both[0].initial = random(sources, 6), both[1].initial = random(s.count, 7);
    if (!whole) bound_outputs(both, inputs, terms, grad);
    check_gpu_kernel(inputs, both, grad);
    for (const std::size_t wanted : {0u, 1u})  // the other one null
      check_gpu_kernel(
          inputs, {both[wanted]}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
            const DeviceIntegers<std::int64_t> entries(queue, index);
            const auto none = decltype(out[0] + 0){nullptr};
            tables.gather.grad(wanted == 0 ? out[0] : none, wanted == 1 ? out[0] : none, in[1], in[0],
                               entries.data(), scaled ? in[2] : nullptr, s, mode, mode, queue);
          });
  }
}

}  // namespace

TEST_CASE("CUDA gather and its gradient: any axis, entries chosen often, once and never") {
  for (const GatherShape& s :
       {GatherShape{1, 1, 1, 1}, GatherShape{5, 7, 9, 1}, GatherShape{1, 40, 70, 2}, GatherShape{2, 3, 5, 8},
        GatherShape{1, 4, 150, 12}, GatherShape{3, 90, 33, 1}, GatherShape{2, 5, 2, 37}})
    for (const bool scaled : {false, true}) {
      check_gather(s, true, scaled);
      check_gather(s, false, scaled);
    }
}

// ---- normalized rows
// -------------------------------------------------------------------------------------------

namespace {

void check_rows(std::int64_t rows, std::int64_t columns) {
  CAPTURE(rows);
  CAPTURE(columns);
  const std::size_t count = size(rows * columns);
  Inputs inputs{random_normal(count, 1), random_normal(count, 2)};
  for (std::int64_t p = 0; p < columns && rows > 1; ++p) inputs[0][size(p)] = 0;  // no direction in the first
  // The factor rounds once, the product once.
  check_gpu_kernel(inputs, {{count, rounding_bound<float>(1, 2.01)}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.normalize_rows.forward(out[0], in[0], rows, columns, queue);
                   });
  for (const Write mode : write_modes) {
    KernelOutput dx{count, 0, std::vector<double>(count), before(count, mode)};
    for (std::int64_t n = 0; n < rows; ++n) {
      double squares = 0, product = 0;
      for (std::int64_t i = n * columns; i < (n + 1) * columns; ++i) {
        squares += inputs[0][size(i)] * static_cast<double>(inputs[0][size(i)]);
        product += inputs[0][size(i)] * static_cast<double>(inputs[1][size(i)]);
      }
      const double norm = std::sqrt(squares), length = norm + row_norm_eps;
      const double along = norm > 0 ? std::abs(product) / (norm * length * length) : 0;
      for (std::size_t i = size(n * columns); i < size((n + 1) * columns); ++i)
        dx.bounds[i] =
            rounding_bound<float>(std::abs(inputs[1][i]) / length + std::abs(inputs[0][i]) * along +
                                      (dx.initial.empty() ? 0 : std::abs(dx.initial[i])),
                                  4.01);
    }
    check_gpu_kernel(inputs, {dx}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.normalize_rows.grad(out[0], in[1], in[0], rows, columns, mode, queue);
    });
  }
}

}  // namespace

TEST_CASE("CUDA rows of any length divided by their norms") {
  check_rows(1, 1);
  check_rows(9, 5);
  check_rows(17, 64);
  check_rows(3, 131);
  check_rows(2, 1024);
  check_rows(2, 1025);
  check_rows(2, 3000);
}
