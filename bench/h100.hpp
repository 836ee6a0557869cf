// An H100 SXM as a few roofs, and what they say of a launch.
#pragma once
#include <map>
#include <string>

#include "engine/profiler/launches.hpp"

namespace fovea::bench::h100 {

constexpr double kMultiprocessors = 132, kClock = 1.98e9;
constexpr double kFlops = kMultiprocessors * 128 * 2 * kClock;  // 66.9 TFLOP/s
constexpr double kMemory = 3.35e12;                             // bytes/s
constexpr double kL2 = 5.5e12;                                  // bytes/s, of all multiprocessors together
constexpr double kL2Port = 64 * kClock;                         // bytes/s, of one
constexpr double kIssue = 4;  // instructions of warps that a multiprocessor begins in a cycle
// Cycles of a multiprocessor for one mma.m16n8k8 of tf32: 495 TFLOP/s would be 1.1, of which mma.sync reaches
// little more than half.
constexpr double kMmaCycles = 2;
constexpr double kMmaProducts = 16 * 8 * 8 / 3.0;  // of f32, each of which takes three of tf32
constexpr double kBankBytes = 128;                 // of shared memory or L1, in a cycle of a multiprocessor
constexpr double kLaunchSeconds = 2e-6;            // between the launches of a graph; in no ratio

/// Registers of a thread by kernel, from the JSON of tools/kernel-report.
class Registers {
 public:
  Registers() = default;
  explicit Registers(const std::string& report_file);
  /// 0: unknown. Types that compilers name differently make a kernel unknown by its whole name; then it
  /// counts as the hungriest instance of its template.
  unsigned of(const std::string& kernel) const;
  bool empty() const { return by_name_.empty(); }

 private:
  std::map<std::string, unsigned> by_name_, by_template_;
};

/// A kernel's name without namespaces of ours and parameters.
std::string short_name(const std::string& demangled);

struct Prediction {
  double resident = 0;                     // blocks that a multiprocessor holds at once
  double waves = 0;                        // of blocks
  double fma = 0, shared = 0, memory = 0;  // seconds at each roof

  double seconds() const;
  const char* bound() const;
};

/// unique_bytes: what the launch reads and writes at least once, from and to memory.
Prediction predict(const simt::profile::LaunchProfile& launch, double unique_bytes, unsigned registers);

}  // namespace fovea::bench::h100
