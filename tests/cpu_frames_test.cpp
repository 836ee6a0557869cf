// CPU kernels of pooling, channel dropout and dropped frames against the f64 reference.
#include "tests/cpu_kernels.hpp"
#include "tests/frames_cases.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

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
    for (const Write mode : write_modes) {
      INFO(text_of(s));
      std::vector<std::int32_t> index = some_places(s);
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
    for (const Write mode : write_modes)
      check_kernel(
          {random_whole(outputs_of(s), 2)},
          {{inputs_of(s), eps, {mode == Write::accumulate ? eps * 4 : 0}, before(inputs_of(s), mode)}},
          [&](const auto& tables, auto in, auto out, const Queue& queue) {
            tables.frames.average_pool_grad(out[0], in[0], s, mode, queue);
          });
  }
}

TEST_CASE("channel dropout of any number of channels, short runs and long ones") {
  for (const ChannelDropout& c : {ChannelDropout{1, 1, 1},
                                  {3, 7, 5},
                                  {2, 50, 16},
                                  {4, 90, 4},
                                  {2, 40000, 1},
                                  {3, 9000, 3},
                                  {2, 700, 48},
                                  {600, 1, 17},
                                  {5, 33, 129},
                                  {0, 3, 4},
                                  {3, 0, 4},
                                  {3, 4, 0}})
    for (const Write mode : write_modes) {
      CAPTURE(c.inner);
      CAPTURE(c.channels);
      check_kernel({random_whole(c.count(), 1), random_whole(size(c.batch * c.channels + 1), 2)},
                   {{c.count(), 0, {0}, random_whole(c.count(), 9)}},
                   ChannelDropout{c.batch, c.inner, c.channels, mode});
    }
}

TEST_CASE("slices of frames, and their gradients with zeros around them") {
  for (const Slice& c : {Slice{1, 1, 1, 0, 1},
                         {2, 9, 5, 3, 4},
                         {3, 12, 16, 0, 12},
                         {2, 30, 24, 20, 10},
                         {1, 7, 4, 2, 1},
                         {2, 6, 7001, 1, 4},
                         {900, 3, 7, 2, 1},
                         {2, 3, 20000, 1, 1}}) {
    CAPTURE(c.inner);
    check_kernel({random_normal(c.all(), 1)}, {{c.some(), 0}}, c);
    for (const Write mode : write_modes)
      check_kernel({random_whole(c.some(), 1)}, {{c.all(), 0, {0}, before(c.all(), mode)}},
                   SliceGradient{c, mode});
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
