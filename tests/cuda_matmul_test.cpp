// The CUDA kernels of the matrix products.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

constexpr const char* kForms[] = {"nn", "tn", "nt"};

/// Tensor cores leave out 3 * 2^-22 of a product at most: the rests of both operands, and their product.
constexpr double kLeftOut = 12;

/// Every form and both modes of writing.
void check_products(const MatmulShape& s, bool whole, GpuBits bits = GpuBits::same) {
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  const auto random = [&](std::int64_t count, unsigned seed) {
    return whole ? random_whole(size(count), seed) : random_normal(size(count), seed);
  };
  const Inputs inputs{random(s.m * s.k, 1), random(s.k * s.n, 2)};
  for (int form = 0; form < 3; ++form)
    for (const Write mode : {Write::overwrite, Write::accumulate}) {
      CAPTURE(std::string(kForms[form]));
      const auto run = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        const auto product = form == 0 ? tables.matmul.nn : form == 1 ? tables.matmul.tn : tables.matmul.nt;
        product(out[0], in[0], in[1], s, mode, queue);
      };
      std::vector<KernelOutput> c{{size(s.m * s.n), 0}};
      if (mode == Write::accumulate) c[0].initial = random(s.m * s.n, 3);
      const double left_out = bits == GpuBits::same ? 0 : kLeftOut;
      if (!whole) bound_outputs(c, inputs, static_cast<double>(s.k) + 2 + left_out, run);
      check_gpu_kernel(inputs, c, run, bits);
    }
}

/// Every form, overwriting.
void check_large(const MatmulShape& s, GpuBits bits) {
  CAPTURE(s.m);
  const Inputs inputs{random_whole(size(s.m * s.k), 1), random_whole(size(s.k * s.n), 2)};
  for (int form = 0; form < 3; ++form)
    check_gpu_kernel(
        inputs, {{size(s.m * s.n), 0}},
        [&](const auto& tables, auto in, auto out, const Queue& queue) {
          const auto product = form == 0 ? tables.matmul.nn : form == 1 ? tables.matmul.tn : tables.matmul.nt;
          product(out[0], in[0], in[1], s, Write::overwrite, queue);
        },
        bits);
}

}  // namespace

TEST_CASE("matrix products are exact on whole numbers, at every tile and tail") {
  check_products({1, 1, 1}, true);
  check_products({3, 5, 2}, true);      // one tile of 64 x 64
  check_products({64, 64, 8}, true);    // full
  check_products({65, 67, 9}, true);    // a row, three columns and a term more
  check_products({128, 32, 24}, true);  // 128 x 32
  check_products({130, 30, 23}, true);  // and tails
  check_products({2, 140, 17}, true);   // several tiles of columns
  check_products({68, 72, 300}, true);  // the sum in two chunks
  check_products({7, 9, 1001}, true);   // seven chunks, the last one short
  check_products({200, 8, 513}, true);  // chunks of the narrow tile
}

TEST_CASE("matrix products stay within the rounding of their sums") {
  check_products({65, 67, 9}, false);
  check_products({130, 30, 23}, false);
  check_products({20, 12, 520}, false);
}

// The tiles of large products, with the fewest terms.
TEST_CASE("matrix products of many tiles are exact on whole numbers") {
  check_large({263 * 128 + 5, 33, 2}, GpuBits::same);           // 128 x 64
  check_large({11 * 128 + 1, 21 * 128 + 4, 2}, GpuBits::same);  // 128 x 128
}

// Under sanitizers minutes for code that the smaller ones run.
TEST_CASE("matrix products of many tiles by tensor cores are exact on whole numbers" *
          doctest::skip(sanitized)) {
  check_large({263 * 128 + 5, 33, 33}, GpuBits::own);
  check_large({11 * 128 + 1, 21 * 128 + 4, 33}, GpuBits::own);
}

TEST_CASE("matrix products by tensor cores are exact on whole numbers, at every tile and tail") {
  check_products({128, 128, 128}, true, GpuBits::own);  // four tiles of 64 x 64, in one chunk
  check_products({65, 260, 131}, true, GpuBits::own);   // tails of rows, columns and terms
  check_products({131, 33, 600}, true, GpuBits::own);   // chunks of the sum
}

TEST_CASE("matrix products by tensor cores round as f32 does") {
  check_products({128, 128, 128}, false, GpuBits::own);
  check_products({65, 67, 515}, false, GpuBits::own);
  // Their error is of the class of f32: no worse than twice that of exactly rounded multiply-adds.
  const auto error = [](const MatmulShape& s) {
    const Inputs inputs{random_normal(size(s.m * s.k), 1), random_normal(size(s.k * s.n), 2)};
    const std::vector<KernelOutput> c{{size(s.m * s.n), 0}};
    const auto run = [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.matmul.nn(out[0], in[0], in[1], s, Write::overwrite, queue);
    };
    const auto expected =
        kernel_outputs(reference_tables<double>(), cpu_device(1, Isa::reference), inputs, c, run)[0];
    const auto actual = device_outputs(emulator_device(), inputs, c, 0, run)[0];
    double difference = 0, total = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
      total += expected[i] * expected[i];
    }
    return std::sqrt(difference / total);
  };
  const double tensor = error({64, 64, 512}), exact = error({63, 64, 512});
  CHECK(tensor > 0);
  CHECK(tensor < 2 * exact);
}

TEST_CASE("matrix products without terms are zero, without outputs nothing") {
  const Inputs inputs{{1}, {1}};
  for (const Write mode : {Write::overwrite, Write::accumulate}) {
    KernelOutput c{6, 0};
    c.initial = random_whole(6, 1);
    check_gpu_kernel(inputs, {c}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.matmul.nn(out[0], in[0], in[1], {2, 3, 0}, mode, queue);
      tables.matmul.tn(out[0], in[0], in[1], {0, 3, 1}, mode, queue);
      tables.matmul.nt(out[0], in[0], in[1], {2, 0, 1}, mode, queue);
    });
  }
}

TEST_CASE("matrix products keep NaN in its row and column") {
  MatmulShape s{40, 36, 20};
  SUBCASE("exactly") {}
  SUBCASE("by tensor cores") { s = {128, 128, 128}; }
  Inputs inputs{random_normal(size(s.m * s.k), 1), random_normal(size(s.k * s.n), 2)};
  inputs[0][size(7 * s.k + 3)] = std::numeric_limits<float>::quiet_NaN();
  const Device device = emulator_device();
  const auto c = device_outputs(device, inputs, {{size(s.m * s.n), 0}}, 0,
                                [&](const auto& tables, auto in, auto out, const Queue& queue) {
                                  tables.matmul.nn(out[0], in[0], in[1], s, Write::overwrite, queue);
                                })[0];
  for (std::size_t i = 0; i < c.size(); ++i) CHECK(std::isnan(c[i]) == (i / size(s.n) == 7));
}
