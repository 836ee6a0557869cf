// Emulated devices whose missing kernels the reference serves, in memory that the host cannot reach.
#pragma once
#include <set>
#include <tuple>

#include "engine/emulator/runtime.hpp"
#include "kernels/wrapped_tables.hpp"

namespace fovea::test {

/// Entries that the reference served, since the set was last cleared.
inline std::set<std::string>& served() {
  static std::set<std::string> names;
  return names;
}

template <KernelEntry which>
auto reference_kernel() {
  static const KernelTables<float> reference = reference_tables<float>();
#define X(op, entry)                                  \
  if constexpr (which == KernelEntry::op##_##entry) { \
    return reference.op.entry;                        \
  } else
  FOVEA_KERNEL_ENTRIES(X) {}
#undef X
}

/// Kernels of a guarded emulator; the reference serves in place of those that are missing.
template <class Tag>
struct Completed {
  template <KernelEntry entry, class Kernel, class... Args>
  static void call(Kernel kernel, Args... args) {
    if (kernel) return kernel(args...);
    served().insert(entry_name(entry));
    const Queue& queue = std::get<sizeof...(Args) - 1>(std::tie(args...));
    const simt::OpenMemory open(static_cast<const simt::Options*>(queue.stream)->guard);
    reference_kernel<entry>()(args...);
  }
};

}  // namespace fovea::test
