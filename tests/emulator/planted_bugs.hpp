// Kernels with one mistake each, by name: what the emulator and the sanitizers must catch.
#pragma once
#include <string>

namespace fovea::test {

constexpr int kPlantedThreads = 64;

/// Runs the kernel with the mistake of that name on one or two blocks of kPlantedThreads threads. `data`
/// holds kPlantedThreads numbers, 16-byte aligned, and nothing behind them. Throws std::out_of_range for an
/// unknown name.
void run_planted(const std::string& bug, float* data, void* stream);

}  // namespace fovea::test
