// CPU kernels of pooling, channel dropout and dropped frames against the f64 reference.
#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr Write modes[] = {Write::overwrite, Write::accumulate};

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> before(std::size_t count, Write mode) {
  return mode == Write::accumulate ? random_whole(count, 9) : std::vector<float>{};
}

PoolShape pool_of(std::int64_t batch, std::int64_t t, std::int64_t h, std::int64_t w, std::int64_t channels,
                  std::int64_t kernel_t, std::int64_t kernel_h, std::int64_t kernel_w) {
  return {batch, t, h, w, channels, kernel_t, kernel_h, kernel_w, t / kernel_t, h / kernel_h, w / kernel_w};
}

std::size_t inputs_of(const PoolShape& s) { return size(s.batch * s.in_t * s.in_h * s.in_w * s.channels); }
std::size_t outputs_of(const PoolShape& s) {
  return size(s.batch * s.out_t * s.out_h * s.out_w * s.channels);
}
std::int64_t taps_of(const PoolShape& s) { return s.kernel_t * s.kernel_h * s.kernel_w; }

/// One value, few and many channels with and without windows across the width, incomplete windows along
/// every axis, many rows of one task, many tasks.
std::vector<PoolShape> pools() {
  return {pool_of(1, 1, 1, 1, 1, 1, 1, 1),    pool_of(2, 1, 6, 9, 3, 1, 2, 2),
          pool_of(1, 5, 5, 7, 8, 2, 2, 3),    pool_of(2, 3, 7, 4, 5, 3, 3, 1),
          pool_of(1, 2, 5, 71, 1, 1, 2, 2),   pool_of(1, 2, 3, 3, 16, 2, 3, 3),
          pool_of(1, 4, 1, 1, 4, 3, 1, 1),    pool_of(2, 2, 4, 6, 17, 2, 2, 2),
          pool_of(1, 3, 9, 40, 33, 1, 2, 5),  pool_of(3, 2, 64, 50, 7, 1, 2, 3),
          pool_of(2, 7, 31, 30, 16, 3, 1, 1), pool_of(2, 1, 3, 3, 2, 1, 4, 1),
          pool_of(0, 2, 4, 4, 3, 1, 2, 2)};
}

/// Runs `pool` with the 32-bit index read as floats; the f64 oracle's are made the same.
template <class Tables, class T>
void run_max_pool(const Tables& tables, T* y, T* index, const T* x, const PoolShape& s, const Queue& queue) {
  if constexpr (sizeof(T) == 4) {
    tables.frames.max_pool(y, reinterpret_cast<std::int32_t*>(index), x, s, queue);
  } else {
    std::vector<std::int32_t> positions(outputs_of(s));
    tables.frames.max_pool(y, positions.data(), x, s, queue);
    for (std::size_t i = 0; i < positions.size(); ++i)
      index[i] = static_cast<T>(__builtin_bit_cast(float, positions[i]));
  }
}

std::string text_of(const PoolShape& s) {
  std::string text = "pool:";
  for (const std::int64_t value :
       {s.batch, s.in_t, s.in_h, s.in_w, s.channels, s.kernel_t, s.kernel_h, s.kernel_w})
    text += " " + std::to_string(value);
  return text;
}

}  // namespace

TEST_CASE("maximum pools find the first of the largest values") {
  for (const PoolShape& s : pools()) {
    INFO(text_of(s));
    const std::size_t outputs = outputs_of(s);
    if (outputs == 0) continue;
    for (const auto& x :
         {random_normal(inputs_of(s), 1), random_whole(inputs_of(s), 1)})  // whole numbers tie
      check_kernel({x}, {{outputs, 0}, {outputs, 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     run_max_pool(tables, out[0], out[1], in[0], s, queue);
                   });
  }
}

TEST_CASE("NaN is the maximum of a pool, the last one its place; so is infinity among finite numbers") {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x{
      1, nan, 7, 3, 2, 1,   -infinity, infinity, -infinity, -infinity, -infinity, -infinity,
      9, 2,   0, 5, 4, nan, 8,         infinity, infinity,  -infinity, -infinity, -infinity};
  const std::vector<float> most{nan, nan, infinity, -infinity};
  const std::vector<std::int32_t> places{1, 5, 1, 0};
  for (const Isa isa : available_isas())
    for (const std::int64_t channels : {1, 3, 8, 16}) {
      CAPTURE(to_string(isa));
      CAPTURE(channels);
      const Device device = cpu_device(1, isa);
      const PoolShape s = pool_of(1, 1, 2, 12, channels, 1, 2, 3);
      std::vector<float> wide, y(outputs_of(s));
      std::vector<std::int32_t> index(outputs_of(s));
      for (const float value : x) wide.insert(wide.end(), size(channels), value);
      tables<float>(device).frames.max_pool(y.data(), index.data(), wide.data(), s, device.backend().queue());
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t window = i / size(channels);
        CHECK((std::isnan(most[window]) ? std::isnan(y[i]) : y[i] == most[window]));
        CHECK(index[i] == places[window]);
      }
    }
}

TEST_CASE("gradients of maximum pools go to the maximum alone") {
  for (const PoolShape& s : pools())
    for (const Write mode : modes) {
      INFO(text_of(s));
      std::vector<std::int32_t> index(outputs_of(s));
      for (std::size_t i = 0; i < index.size(); ++i)
        index[i] = static_cast<std::int32_t>(i * 7919 % size(taps_of(s)));
      if (inputs_of(s) == 0) continue;
      check_kernel({random_whole(outputs_of(s), 1)}, {{inputs_of(s), 0, {0}, before(inputs_of(s), mode)}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.frames.max_pool_grad(out[0], in[0], index.data(), s, mode, queue);
                   });
    }
}

TEST_CASE("average pools and their gradients") {
  constexpr double eps = std::numeric_limits<float>::epsilon();
  for (const PoolShape& s : pools()) {
    INFO(text_of(s));
    if (inputs_of(s) == 0) continue;
    const auto taps = static_cast<double>(taps_of(s));
    if (outputs_of(s) > 0)  // no normal draw reaches 7
      check_kernel({random_normal(inputs_of(s), 1)}, {{outputs_of(s), 0, {rounding_bound<float>(7, taps)}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.frames.average_pool(out[0], in[0], s, queue);
                   });
    for (const Write mode : modes)
      check_kernel(
          {random_whole(outputs_of(s), 2)},
          {{inputs_of(s), eps, {mode == Write::accumulate ? eps * 4 : 0}, before(inputs_of(s), mode)}},
          [&](const auto& tables, auto in, auto out, const Queue& queue) {
            tables.frames.average_pool_grad(out[0], in[0], s, mode, queue);
          });
  }
}

TEST_CASE("channel dropout of any number of channels, short runs and long ones") {
  struct Case {
    std::int64_t batch, inner, channels;
  };
  for (const Case& c :
       {Case{1, 1, 1}, Case{3, 7, 5}, Case{2, 50, 16}, Case{4, 90, 4}, Case{2, 40000, 1}, Case{3, 9000, 3},
        Case{2, 700, 48}, Case{600, 1, 17}, Case{5, 33, 129}, Case{0, 3, 4}, Case{3, 0, 4}, Case{3, 4, 0}})
    for (const Write mode : modes) {
      CAPTURE(c.inner);
      CAPTURE(c.channels);
      const std::size_t count = size(std::max<std::int64_t>(1, c.batch * c.inner * c.channels));
      check_kernel({random_whole(count, 1), random_whole(size(c.batch * c.channels + 1), 2)},
                   {{count, 0, {0}, random_whole(count, 9)}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.frames.scale_channels(out[0], in[0], in[1], c.batch, c.inner, c.channels, mode,
                                                  queue);
                   });
    }
}

TEST_CASE("slices of frames, and their gradients with zeros around them") {
  struct Case {
    std::int64_t batch, frames, inner, first, count;
  };
  for (const Case& c :
       {Case{1, 1, 1, 0, 1}, Case{2, 9, 5, 3, 4}, Case{3, 12, 16, 0, 12}, Case{2, 30, 24, 20, 10},
        Case{1, 7, 4, 2, 1}, Case{2, 6, 7001, 1, 4}, Case{900, 3, 7, 2, 1}, Case{2, 3, 20000, 1, 1}}) {
    CAPTURE(c.inner);
    const std::size_t all = size(c.batch * c.frames * c.inner), some = size(c.batch * c.count * c.inner);
    check_kernel(
        {random_normal(all, 1)}, {{some, 0}}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.frames.slice_frames(out[0], in[0], c.batch, c.frames, c.inner, c.first, c.count, queue);
        });
    for (const Write mode : modes)
      check_kernel({random_whole(some, 1)}, {{all, 0, {0}, before(all, mode)}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.frames.slice_frames_grad(out[0], in[0], c.batch, c.frames, c.inner, c.first,
                                                     c.count, mode, queue);
                   });
  }
}

TEST_CASE("results past the caches have the bits of those in two halves") {
  // 2^24 floats and more are streamed; a half of them is not.
  const std::int64_t half = std::int64_t{1} << 19, channels = 16, items = 2;
  const std::size_t count = size(items * half * channels);
  for (const Isa isa : available_isas()) {
    if (isa == Isa::reference) continue;
    CAPTURE(to_string(isa));
    const Device device = cpu_device(2, isa);
    const Queue& queue = device.backend().queue();
    const auto& frames = tables<float>(device).frames;
    const Shape shape({items * half * channels});
    const Tensor whole(shape, DType::f32, device), halves(shape, DType::f32, device);
    std::vector<float> x(count), factor(size(items * channels));
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i * 2654435761u % 8191) - 4000;
    for (std::size_t i = 0; i < factor.size(); ++i) factor[i] = static_cast<float>(i % 3);
    const auto compare = [&](std::int64_t inputs, const auto& run) {  // of one item
      std::memset(whole.data<float>(), 0xFF, count * sizeof(float));
      run(whole.data<float>(), x.data(), factor.data(), items);
      for (std::int64_t item = 0; item < items; ++item)
        run(halves.data<float>() + item * half * channels, x.data() + item * inputs,
            factor.data() + item * channels, std::int64_t{1});
      CHECK(std::memcmp(whole.data<float>(), halves.data<float>(), count * sizeof(float)) == 0);
    };
    compare(half * channels, [&](float* y, const float* from, const float* by, std::int64_t batch) {
      frames.scale_channels(y, from, by, batch, half, channels, Write::overwrite, queue);
    });
    compare(half * channels, [&](float* y, const float* from, const float*, std::int64_t batch) {
      frames.slice_frames(y, from, batch, 1, half * channels, 0, 1, queue);
    });
    compare(half / 4 * channels, [&](float* y, const float* from, const float*, std::int64_t batch) {
      frames.slice_frames_grad(y, from, batch, half, channels, half / 4 + 3, half / 4, Write::overwrite,
                               queue);
    });
    const auto pool = [&](std::int64_t batch) {
      return pool_of(batch, 1, half / 512, 512, channels, 1, 2, 2);
    };
    compare(half / 4 * channels, [&](float* y, const float* from, const float*, std::int64_t batch) {
      frames.average_pool_grad(y, from, pool(batch), Write::overwrite, queue);
    });
  }
}
