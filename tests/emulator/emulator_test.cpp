// The emulator runs right kernels right, in every order of threads and blocks. (Wrong ones:
// planted_bugs_test.cpp.)
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/emulator/runtime.hpp"
#include "tests/emulator/sample_kernels.hpp"

namespace fovea::test {

int run_as_planted_child(const char* bug);  // planted_bugs_test.cpp

namespace {

std::vector<float> integers(int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(static_cast<int>(random() % 17) - 8);
  return values;
}

const std::vector<simt::Options> kOrders = {{1, 0}, {1, 1}, {2, 0}, {3, 2}, {2, 77}};

TEST_CASE("block sums by shuffles, shared memory and barriers are exact for integers in every order") {
  for (const int count : {1, 31, 256, 257, 10007}) {
    for (const int blocks : {1, 3, 40}) {
      const std::vector<float> x = integers(count, 3);
      const float expected = std::accumulate(x.begin(), x.end(), 0.f);
      for (simt::Options order : kOrders) {
        std::vector<float> sums(static_cast<std::size_t>(blocks), NAN);
        block_sums(sums.data(), x.data(), count, blocks, &order);
        CHECK(std::accumulate(sums.begin(), sums.end(), 0.f) == expected);
      }
    }
  }
}

TEST_CASE("sums that round have the same bits in every order of threads and blocks") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(5000);
  for (float& value : x) value = normal(random);
  std::vector<std::vector<float>> results;
  for (simt::Options order : kOrders) {
    std::vector<float> sums(7, NAN);
    block_sums(sums.data(), x.data(), 5000, 7, &order);
    results.push_back(sums);
  }
  for (const std::vector<float>& sums : results) CHECK(sums == results[0]);
}

TEST_CASE("every thread knows its place in grid and block") {
  const Extent grids[] = {{1, 1, 1}, {5, 1, 1}, {3, 4, 5}}, blocks[] = {{1, 1, 1}, {7, 5, 3}, {8, 2, 16}};
  for (const Extent grid : grids)
    for (const Extent block : blocks)
      for (simt::Options order : kOrders) {
        const std::size_t count = std::size_t{grid.x} * grid.y * grid.z * block.x * block.y * block.z;
        std::vector<int> index(count, -1), expected(count);
        std::iota(expected.begin(), expected.end(), 0);
        write_indices(index.data(), grid, block, &order);
        CHECK(index == expected);
      }
}

// What PTX says a lane reads; -1 where its own value stays.
int shuffle_source(Shuffle kind, int lane, int argument, int width) {
  const int segment = lane / width * width;
  int source = -1;
  if (kind == Shuffle::direct) return segment + argument % width;
  if (kind == Shuffle::up) source = lane - argument >= segment ? lane - argument : -1;
  if (kind == Shuffle::down) source = lane + argument < segment + width ? lane + argument : -1;
  if (kind == Shuffle::exclusive_or) source = (lane ^ argument) < segment + width ? (lane ^ argument) : -1;
  return source;
}

TEST_CASE("shuffles move what PTX says, for every width") {
  int compared = 0;
  for (const Shuffle kind : {Shuffle::direct, Shuffle::up, Shuffle::down, Shuffle::exclusive_or})
    for (const int width : {1, 2, 4, 8, 16, 32})
      for (const int argument : {0, 1, 2, 3, 7, 16, 31}) {
        std::vector<int> out(32, -1);
        simt::Options order{1, static_cast<std::uint64_t>(argument)};
        shuffle_lanes(out.data(), kind, argument, width, 32, &order);
        for (int lane = 0; lane < 32; ++lane) {
          const int source = shuffle_source(kind, lane, argument, width);
          CHECK(out[static_cast<std::size_t>(lane)] == 100 + (source < 0 ? lane : source));
          ++compared;
        }
      }
  CHECK(compared == 4 * 6 * 7 * 32);
}

TEST_CASE("a warp that the block fills in part shuffles among the lanes that exist") {
  std::vector<int> out(20, -1);
  shuffle_lanes(out.data(), Shuffle::up, 1, 32, 20, nullptr);
  for (int lane = 0; lane < 20; ++lane)
    CHECK(out[static_cast<std::size_t>(lane)] == 100 + std::max(lane - 1, 0));
}

TEST_CASE("a shuffle moves all bits of a double") {
  std::vector<double> in(32), out(32);
  for (std::size_t i = 0; i < 32; ++i) in[i] = std::sqrt(static_cast<double>(i + 2));
  shuffle_doubles(out.data(), in.data(), nullptr);
  for (std::size_t i = 0; i < 32; ++i) CHECK(out[i] == in[(i + 1) % 32]);
}

TEST_CASE("two halves of a warp vote apart, in different operations at the same time") {
  for (simt::Options order : kOrders) {
    std::vector<unsigned> ballot(32);
    std::vector<int> any(32, -1), all(32, -1);
    vote_by_parity(ballot.data(), any.data(), all.data(), &order);
    for (std::size_t lane = 0; lane < 32; ++lane) {
      CHECK(ballot[lane] == (lane % 2 ? 0xaau : 0x55u));
      CHECK(any[lane] == (lane % 2 ? 1 : 0));
      CHECK(all[lane] == (lane % 2 ? 0 : 1));
    }
  }
}

TEST_CASE("__syncwarp orders shared memory within a warp") {
  for (simt::Options order : kOrders) {
    std::vector<int> out(32, -1);
    prefix_by_syncwarp(out.data(), &order);
    for (int lane = 0; lane < 32; ++lane) CHECK(out[static_cast<std::size_t>(lane)] == lane * (lane - 1) / 2);
  }
}

TEST_CASE("the staged tf32 GEMM is exact for small integers in every order") {
  const int m = 128, n = 64, k = 48;
  const std::vector<float> a = integers(m * k, 1), b = integers(k * n, 2);
  std::vector<float> expected(static_cast<std::size_t>(m * n));
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j)
      for (int q = 0; q < k; ++q)
        expected[static_cast<std::size_t>(i * n + j)] +=
            a[static_cast<std::size_t>(i * k + q)] * b[static_cast<std::size_t>(q * n + j)];
  for (simt::Options order : kOrders) {
    std::vector<float> c(static_cast<std::size_t>(m * n), NAN);
    gemm_tf32(c.data(), a.data(), b.data(), m, n, k, &order);
    CHECK(c == expected);
  }
}

TEST_CASE("the tf32 GEMM rounds its operands to ten bits and no further") {
  const int size = 64;
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<float> a(size * size), b(size * size), c(size * size, NAN);
  for (float& value : a) value = normal(random);
  for (float& value : b) value = normal(random);
  gemm_tf32(c.data(), a.data(), b.data(), size, size, size, nullptr);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < size; ++i)
    for (std::size_t j = 0; j < size; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < size; ++k) sum += static_cast<double>(a[i * size + k]) * b[k * size + j];
      error += (sum - c[i * size + j]) * (sum - c[i * size + j]);
      norm += sum * sum;
    }
  // Each operand is off by at most 2^-11 relatively; f32 would be below 1e-6.
  const double relative = std::sqrt(error / norm);
  CHECK(relative < 2 * std::ldexp(1.0, -11));
  CHECK(relative > 1e-5);
}

TEST_CASE("asynchronous copies of every width bring the values, and zeros where nothing is read") {
  const int count = 512;
  for (const int valid : {0, 256, 300, count}) {
    const std::vector<float> x = integers(valid, 4);  // exactly what may be read
    for (simt::Options order : kOrders) {
      std::vector<std::vector<float>> outs(3, std::vector<float>(count, NAN));
      copy_through_shared<4>(outs[0].data(), x.data(), valid, count, &order);
      copy_through_shared<8>(outs[1].data(), x.data(), valid, count, &order);
      copy_through_shared<16>(outs[2].data(), x.data(), valid, count, &order);
      for (const std::vector<float>& out : outs)
        for (int i = 0; i < count; ++i) {
          const int source = i / 256 * 256 + 255 - i % 256;
          const float expected = source < valid ? x[static_cast<std::size_t>(source)] : 0.f;
          CHECK(out[static_cast<std::size_t>(i)] == expected);
        }
    }
  }
}

std::vector<int> arrivals(std::uint64_t seed) {
  std::vector<int> order(129, 0);
  simt::Options options{1, seed};
  arrival_order(order.data(), 128, &options);
  order.pop_back();
  return order;
}

TEST_CASE("a seed shuffles the threads, always in the same way; without one they keep their order") {
  std::vector<int> identity(128);
  std::iota(identity.begin(), identity.end(), 0);
  CHECK(arrivals(0) == identity);
  CHECK(arrivals(1) != identity);
  CHECK(arrivals(1) == arrivals(1));
  CHECK(arrivals(1) != arrivals(2));
  CHECK(std::is_permutation(identity.begin(), identity.end(), arrivals(3).begin()));
}

TEST_CASE("an exception thrown by a kernel reaches the caller; the threads that wait are unwound") {
  for (simt::Options order : kOrders) {
    int alive = 0;
    CHECK_THROWS_WITH_AS(throw_beside_waiting_threads(&alive, 100, &order), "thrown by a kernel",
                         std::runtime_error);
    CHECK(alive == 0);
  }
}

TEST_CASE("launches from several threads do not disturb each other") {
  const std::vector<float> x = integers(4000, 8);
  const float expected = std::accumulate(x.begin(), x.end(), 0.f);
  std::vector<float> totals(4, NAN);
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < totals.size(); ++caller)
    callers.emplace_back([&, caller] {
      std::vector<float> sums(6, NAN);
      simt::Options options{2, caller};
      for (int repeat = 0; repeat < 3; ++repeat) block_sums(sums.data(), x.data(), 4000, 6, &options);
      totals[caller] = std::accumulate(sums.begin(), sums.end(), 0.f);
    });
  for (std::thread& caller : callers) caller.join();
  for (const float total : totals) CHECK(total == expected);
}

}  // namespace
}  // namespace fovea::test

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--planted") return fovea::test::run_as_planted_child(argv[2]);
  return doctest::Context(argc, argv).run();
}
