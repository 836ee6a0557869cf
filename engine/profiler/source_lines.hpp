// Names and source lines of addresses in this program, by addr2line of the binutils.
#pragma once
#include <string>
#include <vector>

namespace fovea::simt::profile {

struct Frame {
  std::string function, file;
  unsigned line = 0;
};

/// For each address the functions that it lies in, the innermost inlined one first, the one that it was
/// inlined into last. Throws Error when there is no addr2line.
std::vector<std::vector<Frame>> frames_of(const std::vector<const void*>& addresses);

}  // namespace fovea::simt::profile
