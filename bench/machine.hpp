// The limits that shares in the bench refer to.
#pragma once
#include "fovea/device.hpp"

namespace fovea::bench {

struct Machine {
  double flops = 0;             ///< multiply-add peak of the device's threads and instruction set, FLOP/s
  double bytes_per_second = 0;  ///< of a copy past the caches, bytes read plus bytes written
};

/// Measures the threads and instruction set of a CPU device: about a second.
Machine measure(const Device& device);

}  // namespace fovea::bench
