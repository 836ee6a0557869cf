// What the system says of memory (Linux).
#pragma once
#include <cstddef>

namespace fovea {

/// Bytes that this process can still take without being killed or refused: the least of what the system has
/// available, what its control group leaves, and what its resource limits leave.
std::size_t available_memory();

/// Bytes of physical memory that this process holds now, and the most it has held.
std::size_t resident_memory();
std::size_t peak_resident_memory();

}  // namespace fovea
