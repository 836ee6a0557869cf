// The stored hashes of what the CUDA kernels give, tests/fixtures/kernel_hashes.txt: a line
// `test case/number of the call in it hash` for every check_gpu_kernel. The emulator's outputs hash to them
// with every compiler and instruction set, and a GPU's where GpuBits says that it has the same bits: the
// inputs and the kernels are made of exactly rounded operations. The one exception is a power in double
// precision, in the bias corrections of AdamW, that libm computes; it is rounded to f32 before it is used.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace fovea::test {

using KernelCall = std::pair<std::string, int>;  // test case, number of the call in it

std::string to_string(const KernelCall& call);

/// FNV-1a of the sizes and bits of all outputs; NaNs, whose bits are free, are all the same.
std::uint64_t hash_of(const std::vector<std::vector<float>>& outputs);

/// The lines of such a file, and which of them were met.
class KernelHashes {
 public:
  /// A file that is not there holds none. Throws Error where a line is something else.
  explicit KernelHashes(const std::string& path);

  /// Calls are numbered from 1 in each test case.
  KernelCall next_call(const std::string& test_case) { return {test_case, ++calls_[test_case]}; }

  /// Empty where this is the hash that is stored, else what is wrong.
  std::string compare(const KernelCall& call, std::uint64_t hash);

  /// What is stored and was never compared.
  std::vector<KernelCall> stale() const;

  /// Replaces the file. Lines of test cases that compared nothing stay unless `all` ran.
  void write(bool all) const;

 private:
  std::string path_;
  std::map<std::string, int> calls_;
  std::map<KernelCall, std::uint64_t> stored_, met_;
};

/// The next check_gpu_kernel of the running test case.
KernelCall next_kernel_call();

/// Holds outputs against the stored hash of a call; with FOVEA_WRITE_HASHES set those of the emulator are
/// remembered instead, for the file to be written when all is well.
void check_kernel_hash(const KernelCall& call, const std::vector<std::vector<float>>& outputs, bool on_gpu);

}  // namespace fovea::test
