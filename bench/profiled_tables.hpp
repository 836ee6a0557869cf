// The CUDA kernels as the profiler runs them.
#pragma once
#include "kernels/tables.hpp"

namespace fovea::bench {

KernelTables<float> profiled_tables();

/// One entry of a table.
template <KernelEntry entry>
auto entry_of(const KernelTables<float>& tables) {
#define X(op, member) \
  if constexpr (entry == KernelEntry::op##_##member) return tables.op.member;
  FOVEA_KERNEL_ENTRIES(X)
#undef X
}

}  // namespace fovea::bench
