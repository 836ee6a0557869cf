// How backends are put together; used by kernels/backends.cpp only, and by the files that fill a table.
#pragma once
#include <memory>

#include "kernels/tables.hpp"

namespace fovea {

/// Fills what is empty with functions that throw, and notes the status of the entries.
std::shared_ptr<const Tables> complete_tables(KernelTables<float> f32, KernelTables<double> f64);

/// The reference table overridden by the CPU kernels of one instruction set (kernels/cpu/tables.cpp).
KernelTables<float> cpu_tables(Isa isa);
/// Instruction sets compiled into this build, `reference` first (kernels/cpu/tables.cpp).
std::vector<Isa> compiled_isas();

/// Entries of the hand-written CUDA kernels; the emulator runs the same sources (kernels/cuda/tables.cpp).
KernelTables<float> emulator_tables();
KernelTables<float> cuda_tables();

}  // namespace fovea
