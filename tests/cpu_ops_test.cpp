// CPU kernels of every op but the convolution against the f64 reference.
#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<double> scaled(std::vector<double> values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

std::vector<float> magnitudes(std::vector<float> values) {
  for (float& value : values) value = std::abs(value);
  return values;
}

}  // namespace

TEST_CASE("the comparison of kernels finds a wrong value, a missing one and a write outside") {
  const Device host = cpu_device(1, Isa::reference);
  CHECK(within_output({1, 2}, {1, 2}, {2, 0}, host));
  CHECK_FALSE(within_output({1, 2}, {1, 2.001f}, {2, 1e-4}, host));
  CHECK_FALSE(within_output({1, 2}, {1, std::nanf("")}, {2, 1}, host));
  CHECK_FALSE(same_bits({0.0f}, {-0.0f}));
  GuardedBuffer<float> buffer(3, 1);
  buffer.data()[3] = 1;
  CHECK_FALSE(buffer.intact());
}

namespace {

using Matmul = void (*)(float*, const float*, const float*, const MatmulShape&, Write, const Queue&);

/// One of nn, tn, nt by name, for both scalar types.
template <class T>
auto form_of(const KernelTables<T>& tables, int form) {
  return form == 0 ? tables.matmul.nn : form == 1 ? tables.matmul.tn : tables.matmul.nt;
}

void check_matmul(const MatmulShape& s, bool whole) {
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  const auto random = [&](std::int64_t count, unsigned seed) {
    return whole ? random_whole(size(count), seed) : random_normal(size(count), seed);
  };
  const Inputs inputs{random(s.m * s.k, 1), random(s.k * s.n, 2)};
  for (int form = 0; form < 3; ++form)
    for (const Write mode : {Write::overwrite, Write::accumulate}) {
      CAPTURE(form);
      const auto run = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        form_of(tables, form)(out[0], in[0], in[1], s, mode, queue);
      };
      KernelOutput output{size(s.m * s.n), 0};
      if (mode == Write::accumulate) output.initial = random(s.m * s.n, 3);
      if (!whole) {
        // Every product goes through at most 512 additions of its chunk and one per chunk.
        const Device host = cpu_device(1, Isa::reference);
        KernelOutput all = output;
        all.initial = magnitudes(all.initial);
        const double roundings = 512.0 + static_cast<double>(s.k / 512) + 2;
        output.bounds = scaled(kernel_outputs(reference_tables<double>(), host,
                                              {magnitudes(inputs[0]), magnitudes(inputs[1])}, {all}, run)[0],
                               rounding_bound<float>(1, roundings));
      }
      check_kernel(inputs, {output}, run);
    }
}

}  // namespace

TEST_CASE("matmul is exact on whole numbers, for every tail of the tiles") {
  for (const std::int64_t m : {1, 2, 5, 6, 7, 12, 13, 25, 97}) check_matmul({m, 33, 17}, true);
  for (const std::int64_t n : {1, 3, 15, 16, 17, 31, 32, 41, 65, 257, 300}) check_matmul({14, n, 10}, true);
  for (const std::int64_t k : {0, 1, 2, 3, 4, 5, 255, 256, 511, 512, 513, 1030})
    check_matmul({13, 18, k}, true);
  check_matmul({200, 113, 300}, true);
}

TEST_CASE("matmul in several passes over columns and k") {
  check_matmul({3, 4100, 260}, true);    // more columns than a pass holds
  check_matmul({13, 1100, 1100}, true);  // more ks
  check_matmul({14, 41, 16700}, true);   // few columns, whose rows of A are read where they are
}

TEST_CASE("matmul of few columns, where nothing is packed") {
  for (const std::int64_t n : {1, 16, 17, 32, 33, 41, 48, 49, 63, 64, 65}) check_matmul({47, n, 514}, true);
  for (const std::int64_t m : {1, 3, 4, 24, 29, 30, 95}) check_matmul({m, 41, 40}, true);
  // A by columns: tiles of rows and what is left of them, as many columns as one tile holds and more.
  for (const std::int64_t m : {255, 256, 271, 300}) check_matmul({m, 41, 20}, true);
  for (const std::int64_t n : {1, 2, 5, 6, 7, 12, 13, 113, 128, 129}) check_matmul({260, n, 10}, true);
  for (const std::int64_t k : {1, 512, 513, 1100}) check_matmul({289, 13, k}, true);
  check_matmul({512, 41, 3000}, false);
  // Few rows.
  for (const std::int64_t m : {1, 5, 6, 7, 12, 13, 33, 64, 65}) check_matmul({m, 290, 70}, true);
  for (const std::int64_t n : {63, 64, 65, 96, 113, 257}) check_matmul({9, n, 66}, true);
  for (const std::int64_t k : {1, 63, 64, 512, 513, 1100}) check_matmul({3, 270, k}, true);
  check_matmul({20, 300, 2000}, false);
}

TEST_CASE("a product of more than 64 MB, which goes past the caches, is exact") {
  const std::int64_t m = 65, n = 262144;
  for (const Isa isa : available_isas()) {
    if (isa == Isa::reference) continue;
    const Device device = cpu_device(3, isa);
    const Tensor a({m}, DType::f32, device), b({n}, DType::f32, device), c({m, n}, DType::f32, device);
    for (std::int64_t i = 0; i < m; ++i) a.data<float>()[i] = static_cast<float>(i - 30);
    for (std::int64_t i = 0; i < n; ++i) b.data<float>()[i] = static_cast<float>(i % 1021);
    tables<float>(device).matmul.nt(c.data<float>(), a.data<float>(), b.data<float>(), {m, n, 1},
                                    Write::overwrite, device.backend().queue());
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < m * n; ++i)
      wrong += c.data<float>()[i] != static_cast<float>((i / n - 30) * (i % n % 1021));
    CHECK(wrong == 0);
  }
}

TEST_CASE("matmul stays within the rounding of its sums") {
  check_matmul({31, 47, 700}, false);
  check_matmul({240, 113, 96}, false);
}

namespace {

struct BatchNormCase {
  std::int64_t rows, channels;
  ActivationKind activation = ActivationKind::elu;
  double mean = 0.5;
  bool affine = true;
};

void check_batch_norm(const BatchNormCase& c) {
  CAPTURE(c.rows);
  CAPTURE(c.channels);
  const BatchNormShape s{c.rows, c.channels, 1e-5, 0.1, {c.activation, 0.125, 0.25}};
  const std::size_t count = size(c.rows * c.channels), channels = size(c.channels);
  Inputs inputs{random_normal(count, 1, c.mean, 2), random_normal(count, 2),
                random_normal(channels, 3, 1, 0.5), random_normal(channels, 4), random_normal(channels, 5)};
  // A mean of so many deviations costs as many roundings in z.
  const double shift = 1 + std::abs(c.mean), row_count = static_cast<double>(c.rows);
  const double z_bound = 32 * eps * shift;
  const std::vector<float> running_mean = random_normal(channels, 6), running_var(channels, 1.5f);
  const auto parameters = [&](auto& in) {
    using T = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(in[0])>>>;
    return c.affine ? BatchNormParameters<T>{in[2], in[3], in[4]}
                    : BatchNormParameters<T>{nullptr, nullptr, nullptr};
  };
  check_kernel(inputs,
               {{count, 16 * eps, {z_bound}},
                {channels, 4 * eps, {4 * eps * shift}},
                {channels, 16 * eps},
                {channels, 4 * eps, {4 * eps * shift}, running_mean},
                {channels, 16 * eps, {0}, running_var}},
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 tables.batch_norm.forward_training(out[0], out[1], out[2], out[3], out[4], in[0],
                                                    parameters(in), s, queue);
               });
  Inputs evaluation = inputs;
  evaluation.push_back(running_mean);
  evaluation.push_back(running_var);
  check_kernel(evaluation, {{count, 16 * eps, {z_bound}}},
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 tables.batch_norm.forward_evaluation(out[0], in[5], in[6], in[0], parameters(in), s, queue);
               });
  // Slopes of relu jump: their sums are compared where the activation is smooth.
  for (const Write mode : {Write::overwrite, Write::accumulate}) {
    const std::vector<float> before =
        mode == Write::accumulate ? random_normal(count, 8) : std::vector<float>{};
    const double slope_bound = 64 * eps * shift;
    const std::vector<KernelOutput> outputs{{count, 16 * eps, {slope_bound * 4}, before},
                                            {channels, 16 * eps, {slope_bound * row_count}},
                                            {channels, 16 * eps, {slope_bound * row_count}}};
    check_kernel(evaluation, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.batch_norm.grad_evaluation(out[0], out[1], out[2], in[1], in[0], in[5], in[6], parameters(in), s,
                                        mode, queue);
    });
    check_kernel(evaluation, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.batch_norm.grad_training(out[0], out[1], out[2], in[1], in[0], in[5], in[6], parameters(in), s,
                                      mode, queue);
    });
  }
  check_kernel(evaluation,
               {{channels, 16 * eps, {64 * eps * shift * row_count}},
                {channels, 16 * eps, {64 * eps * shift * row_count}}},
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 using T = std::remove_pointer_t<std::decay_t<decltype(out[0])>>;
                 tables.batch_norm.grad_training(static_cast<T*>(nullptr), out[0], out[1], in[1], in[0],
                                                 in[5], in[6], parameters(in), s, Write::overwrite, queue);
               });
}

}  // namespace

TEST_CASE("batch norm for any number of channels and rows") {
  for (const std::int64_t channels : {1, 2, 3, 5, 8, 16, 24, 41, 64, 127, 128})
    for (const std::int64_t rows : {2, 3, 17, 130}) check_batch_norm({rows, channels});
  check_batch_norm({3000, 8});  // several chunks
  check_batch_norm({1501, 16});
  check_batch_norm({700, 41});
}

TEST_CASE("batch norm with every activation, without parameters, far from zero") {
  for (const ActivationKind kind : {ActivationKind::identity, ActivationKind::softplus, ActivationKind::requ})
    check_batch_norm({100, 6, kind});
  check_batch_norm({1200, 8, ActivationKind::elu, 0.5, false});
  check_batch_norm({1200, 8, ActivationKind::elu, 300});
}
