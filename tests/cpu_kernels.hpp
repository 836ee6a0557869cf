// Holds the CPU kernels of every instruction set against the f64 reference: values within bounds, nothing
// written outside, the same bits for any number of threads and for AVX2 and AVX-512.
#pragma once
#include <doctest/doctest.h>

#include <random>

#include "engine/backend.hpp"
#include "engine/philox.hpp"
#include "kernels/tables.hpp"
#include "tests/check.hpp"

namespace fovea::test {

/// Output of a kernel call: `initial` is what the memory holds before (accumulation, in-place kernels), else
/// it starts as NaN. An entry may be off by bounds[i] + relative * |expected|; one bound serves all entries.
struct KernelOutput {
  std::size_t count;
  double relative;
  std::vector<double> bounds = {0};
  std::vector<float> initial = {};
};

using Inputs = std::vector<std::vector<float>>;

/// The same numbers on every machine; those of std::normal_distribution are the library's choice.
inline std::vector<float> random_normal(std::size_t count, unsigned seed, double mean = 0,
                                        double deviation = 1) {
  std::vector<float> values(count);
  float normals[4];
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 4 == 0) normals_from_block(philox_block({seed}, static_cast<std::uint32_t>(i / 4)), normals);
    values[i] = static_cast<float>(mean + deviation * static_cast<double>(normals[i % 4]));
  }
  return values;
}

/// Small whole numbers: their sums of products are exact in f32, in any order.
inline std::vector<float> random_whole(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(static_cast<int>(generator() % 9) - 4);
  return values;
}

/// Outputs of run(tables, inputs, outputs, queue) with the kernels of one scalar type.
template <class T, class Run>
std::vector<std::vector<T>> kernel_outputs(const KernelTables<T>& tables, const Device& device,
                                           const Inputs& inputs, const std::vector<KernelOutput>& outputs,
                                           const Run& run) {
  std::vector<std::vector<T>> in;
  std::vector<const T*> in_data;
  for (const auto& input : inputs) in.emplace_back(input.begin(), input.end());
  for (const auto& input : in) in_data.push_back(input.data());
  std::vector<GuardedBuffer<T>> buffers;
  std::vector<T*> out_data;
  for (const KernelOutput& output : outputs) buffers.emplace_back(output.count, 1);  // not aligned to vectors
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    out_data.push_back(buffers[i].data());
    std::copy(outputs[i].initial.begin(), outputs[i].initial.end(), buffers[i].data());
  }
  run(tables, in_data, out_data, device.backend().queue());
  std::vector<std::vector<T>> results;
  for (const auto& buffer : buffers) {
    CHECK(buffer.intact());
    results.push_back(buffer.values());
  }
  return results;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class T>
Tensor as_tensor(const std::vector<T>& values, const Device& device) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, device);
}

inline Comparison within_output(const std::vector<double>& expected, const std::vector<float>& actual,
                                const KernelOutput& output, const Device& device) {
  std::vector<double> bounds(output.count);
  for (std::size_t i = 0; i < output.count; ++i)
    bounds[i] = output.bounds[output.bounds.size() == 1 ? 0 : i] + output.relative * std::abs(expected[i]);
  return within_each(as_tensor(expected, device), as_tensor(actual, device), bounds);
}

/// run is called as run(tables, inputs, outputs, queue) with f64 reference tables, then with the f32 tables
/// of every instruction set and several numbers of threads.
template <class Run>
void check_kernel(const Inputs& inputs, const std::vector<KernelOutput>& outputs, const Run& run) {
  const Device host = cpu_device(1, Isa::reference);
  const auto expected = kernel_outputs(reference_tables<double>(), host, inputs, outputs, run);
  std::vector<std::vector<float>> vector_bits;  // what AVX2 gave
  for (const Isa isa : available_isas()) {
    if (isa == Isa::reference) continue;
    CAPTURE(to_string(isa));
    std::vector<std::vector<float>> first;
    for (const int threads : {1, 2, 3, 7}) {
      CAPTURE(threads);
      const Device device = cpu_device(threads, isa);
      const auto actual = kernel_outputs(tables<float>(device), device, inputs, outputs, run);
      if (first.empty()) {
        first = actual;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
          CAPTURE(i);
          CHECK(within_output(expected[i], actual[i], outputs[i], host));
        }
      }
      for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(same_bits(first[i], actual[i]));
    }
    if (isa == Isa::avx512 && !vector_bits.empty())
      for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(same_bits(vector_bits[i], first[i]));
    if (isa == Isa::avx2) vector_bits = first;
  }
}

}  // namespace fovea::test
