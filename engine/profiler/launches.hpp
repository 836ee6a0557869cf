// What profiled launches did: counts per place in the code, of the blocks that were run.
#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "engine/emulator/runtime.hpp"

namespace fovea::simt::profile {

enum class Kind : unsigned char { global_read, global_write, shared_read, shared_write, fma, mma, barrier };

/// Sums over requests: what one instruction does for the lanes of one warp at once.
struct Counts {
  std::uint64_t requests = 0;
  std::uint64_t lanes = 0;     // that took part
  std::uint64_t launched = 0;  // lanes of their warps that the launch has
  std::uint64_t bytes = 0;
  std::uint64_t sectors = 0;        // global: 32 bytes each, distinct within the request
  std::uint64_t passes = 0;         // shared: cycles of the banks
  std::uint64_t fewest_passes = 0;  // shared: cycles without conflicts

  Counts& operator+=(const Counts& other);
};

/// An instruction, by the address behind its call.
struct Place {
  const void* at;
  Kind kind;
  Counts counts;
};

constexpr unsigned kSectorBytes = 32, kPageBytes = 64 * kSectorBytes;
constexpr unsigned kBankBytes = 4;

/// Which sectors of a page the sampled blocks have touched, a bit each.
struct Page {
  std::uint64_t read = 0, written = 0;
};

struct LaunchProfile {
  const void* kernel = nullptr;
  Site site;
  dim3 grid, block;
  std::size_t static_shared = 0, dynamic_shared = 0;  // bytes
  std::uint64_t blocks = 0, sampled = 0;
  std::vector<Place> places;
  std::map<std::uintptr_t, Page> pages;  // by address / kPageBytes
  std::uint64_t block_sectors = 0;  // distinct sectors of a block, read or written, summed over the blocks

  unsigned threads() const { return block.x * block.y * block.z; }
  unsigned warps() const { return (threads() + kWarpSize - 1) / kWarpSize; }
  double scale() const { return static_cast<double>(blocks) / static_cast<double>(sampled); }
  /// Of the sampled blocks.
  Counts total(Kind kind) const;
};

/// How many blocks of a launch are run: `blocks` of them, but fewer where they are expensive, and all where
/// the whole launch is cheap by what they cost. Launches that leave indices for later ones must be whole: the
/// sort of a point readout at the largest workload takes a quarter of this. Cost is counted in accesses and
/// multiply-adds of threads.
struct Sampling {
  std::uint64_t blocks = 64, fewest_blocks = 8;
  std::uint64_t whole = 20'000'000, expensive = 100'000'000;

  bool enough(std::uint64_t run, std::uint64_t cost, std::uint64_t of_blocks) const;
};

Sampling& sampling();

/// The launches since the last call, in their order.
std::vector<LaunchProfile> take_launches();

}  // namespace fovea::simt::profile
