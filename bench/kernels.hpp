// Benchmarks of single kernels.
#pragma once
#include "bench/machine.hpp"
#include "fovea/device.hpp"

namespace fovea::bench {

/// Registers kernel/<op>/<pass>/<implementation>/<shape> on the shapes of the workloads, with counters
/// GFLOP/s or GB/s and `share`, the part of the machine's measured limit.
void register_kernels(const Device& device, const Machine& machine);

}  // namespace fovea::bench
