// Holds the CUDA kernels against the f64 reference, run by the emulator and, where there is one, on a GPU:
// values within bounds, nothing written outside, the same bits for every order of threads and blocks and on
// the GPU, vector accesses or not, and those whose hash is stored.
#pragma once
#include <cstdlib>
#include <optional>

#include "engine/sanitized.hpp"
#include "tests/cpu_kernels.hpp"
#include "tests/kernel_hashes.hpp"

namespace fovea::test {

/// Memory of a device between guard bands. Inputs end where their last value does, so that the emulator's
/// AddressSanitizer sees what is read behind it.
class DeviceBuffer {
 public:
  /// `offset` floats behind an address that is a multiple of 64 bytes; no band behind the data when `exact`.
  DeviceBuffer(const Device& device, const std::vector<float>& values, std::size_t offset, bool exact)
      : memory_(*device.backend().memory), begin_(front + offset), count_(values.size()) {
    image_.assign(begin_ + count_ + (exact ? 0 : band), not_a_number());
    std::copy(values.begin(), values.end(), image_.begin() + static_cast<std::ptrdiff_t>(begin_));
    data_ = static_cast<float*>(memory_.allocate(bytes()));
    memory_.copy_from_host(data_, image_.data(), bytes());
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { memory_.release(data_, bytes()); }

  float* data() const { return data_ + begin_; }

  /// The values after the kernel ran; the bands must be as they were.
  std::vector<float> values() const {
    std::vector<float> now(image_.size());
    memory_.copy_to_host(now.data(), data_, bytes());
    const auto first = now.begin() + static_cast<std::ptrdiff_t>(begin_);
    const auto last = first + static_cast<std::ptrdiff_t>(count_);
    CHECK(same_bits({now.begin(), first}, std::vector<float>(begin_, not_a_number())));
    CHECK(same_bits({last, now.end()}, std::vector<float>(image_.size() - begin_ - count_, not_a_number())));
    return {first, last};
  }

 private:
  static constexpr std::size_t front = 16, band = 64;  // 16 floats: the data keep the alignment of the memory

  static float not_a_number() {
    float value;
    std::memset(&value, 0xFF, sizeof value);
    return value;
  }
  std::size_t bytes() const { return image_.size() * sizeof(float); }

  Memory& memory_;
  std::size_t begin_, count_;
  std::vector<float> image_;
  float* data_ = nullptr;
};

/// As kernel_outputs, in the memory of any device.
template <class Run>
std::vector<std::vector<float>> device_outputs(const Device& device, const Inputs& inputs,
                                               const std::vector<KernelOutput>& outputs, std::size_t offset,
                                               const Run& run) {
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const auto& input : inputs) {
    buffers.push_back(std::make_unique<DeviceBuffer>(device, input, offset, true));
    in.push_back(buffers.back()->data());
  }
  for (const KernelOutput& output : outputs) {
    std::vector<float> values(output.count, std::numeric_limits<float>::quiet_NaN());
    std::copy(output.initial.begin(), output.initial.end(), values.begin());
    buffers.push_back(std::make_unique<DeviceBuffer>(device, values, offset, false));
    out.push_back(buffers.back()->data());
  }
  run(tables<float>(device), in, out, device.backend().queue());
  std::vector<std::vector<float>> results;
  for (std::size_t i = 0; i < outputs.size(); ++i) results.push_back(buffers[inputs.size() + i]->values());
  return results;
}

/// The GPU of this machine, if it has one. Where FOVEA_NEED_GPU is set its absence is an error.
inline const std::optional<Device>& gpu() {
  static const std::optional<Device> found = []() -> std::optional<Device> {
    try {
      return cuda_device();
    } catch (const DeviceError&) {
      if (const char* needed = std::getenv("FOVEA_NEED_GPU"); needed && *needed) throw;
      return std::nullopt;
    }
  }();
  return found;
}

/// Whether a GPU is to run alone: under compute-sanitizer, which sees nothing of the emulator.
inline bool without_emulator() {
  const char* without = std::getenv("FOVEA_WITHOUT_EMULATOR");
  return without && *without;
}

/// Whether a kernel gives the bits of the emulator on a GPU; tensor cores round their sums in their own way.
enum class GpuBits { same, own };

/// run is called as run(tables, inputs, outputs, queue) with f64 reference tables first, then on the emulator
/// in several orders of threads and blocks, then on the GPU; with operands that are aligned to vectors and
/// not.
template <class Run>
void check_gpu_kernel(const Inputs& inputs, const std::vector<KernelOutput>& outputs, const Run& run,
                      GpuBits bits = GpuBits::same) {
  const Device host = cpu_device(1, Isa::reference);
  const auto expected = kernel_outputs(reference_tables<double>(), host, inputs, outputs, run);
  const auto check_values = [&](const std::vector<std::vector<float>>& actual) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      CAPTURE(i);
      CHECK(within_output(expected[i], actual[i], outputs[i], host));
    }
  };
  const auto check_same = [&](const std::vector<std::vector<float>>& a,
                              const std::vector<std::vector<float>>& b) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(a[i], b[i]));
    }
  };
  struct Order {
    int threads;
    unsigned seed;
    std::size_t offset;
  };
  const KernelCall call = next_kernel_call();
  std::vector<std::vector<float>> first;
  for (const Order order : {Order{1, 0, 0}, Order{2, 1, 1}, Order{1, 20, 0}}) {
    if (sanitized && order.seed == 20) break;                     // two orders are slow enough there
    if (gpu() && (order.seed != 0 || without_emulator())) break;  // other orders are for machines without one
    CAPTURE(order.seed);
    CAPTURE(order.offset);
    const auto actual =
        device_outputs(emulator_device(order.threads, order.seed), inputs, outputs, order.offset, run);
    if (first.empty())
      check_values(first = actual);
    else
      check_same(first, actual);
  }
  if (!first.empty()) check_kernel_hash(call, first, false);
  if (!gpu()) return;
  std::vector<std::vector<float>> on_gpu;
  for (const std::size_t offset : {0u, 1u, 0u}) {
    INFO("on the GPU, offset " << offset);
    const auto actual = device_outputs(*gpu(), inputs, outputs, offset, run);
    if (on_gpu.empty())
      check_values(on_gpu = actual);
    else
      check_same(on_gpu, actual);
  }
  if (bits == GpuBits::own) return;
  check_kernel_hash(call, on_gpu, true);
  if (!first.empty()) {
    INFO("emulator and GPU");
    check_same(first, on_gpu);
  }
}

/// The outputs of a kernel on the emulator and on the GPU where there is one, for what no f64 reference says.
template <class Run>
std::vector<std::vector<float>> gpu_outputs(const Inputs& inputs, const std::vector<KernelOutput>& outputs,
                                            const Run& run) {
  const auto emulated = device_outputs(emulator_device(), inputs, outputs, 0, run);
  if (gpu()) {
    const auto on_gpu = device_outputs(*gpu(), inputs, outputs, 0, run);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      for (std::size_t k = 0; k < outputs[i].count; ++k) {
        const bool nan = std::isnan(emulated[i][k]);  // whose bits are free
        CHECK((nan ? std::isnan(on_gpu[i][k]) : emulated[i][k] == on_gpu[i][k]));
      }
  }
  return emulated;
}

/// Bounds of the outputs: `roundings` of the sum of the magnitudes of the products, for kernels that are sums
/// of products of their inputs. Zero for whole numbers.
template <class Run>
void bound_outputs(std::vector<KernelOutput>& outputs, Inputs inputs, double roundings, const Run& run) {
  const auto magnitudes = [](std::vector<float>& values) {
    for (float& value : values) value = std::abs(value);
  };
  std::vector<KernelOutput> sums = outputs;
  for (auto& input : inputs) magnitudes(input);
  for (KernelOutput& output : sums) magnitudes(output.initial);
  const Device host = cpu_device(1, Isa::reference);
  const auto magnitude = kernel_outputs(reference_tables<double>(), host, inputs, sums, run);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    outputs[i].bounds = magnitude[i];
    for (double& bound : outputs[i].bounds) bound = rounding_bound<float>(bound, roundings);
  }
}

}  // namespace fovea::test
