// The requests of warps. The emulator runs lanes one after the other, so what lanes do together is found
// afterwards: the n-th execution of an instruction by each lane since the lanes of the warp last met (at a
// barrier or a warp operation of all of them) is one request. Where lanes skip iterations of a loop without
// meeting, requests are thus at most too full, never too many.
#pragma once
#include <array>
#include <unordered_map>

#include "engine/profiler/launches.hpp"

namespace fovea::simt::profile {

/// Distinct 32-byte sectors of the lanes in `lanes`; calls found(sector) for each.
template <class Found>
unsigned distinct_sectors(const std::uintptr_t (&address)[kWarpSize], unsigned lanes, unsigned bytes,
                          const Found& found) {
  std::uintptr_t seen[2 * kWarpSize];
  unsigned count = 0;
  const auto add = [&](std::uintptr_t sector) {
    for (unsigned i = count; i-- > 0;)
      if (seen[i] == sector) return;
    seen[count++] = sector;
    found(sector);
  };
  for (; lanes; lanes &= lanes - 1) {
    const std::uintptr_t begin = address[__builtin_ctz(lanes)];
    add(begin / kSectorBytes);
    add((begin + bytes - 1) / kSectorBytes);
  }
  return count;
}

struct Passes {
  unsigned taken, fewest;
};

/// Cycles of the 32 banks of 4 bytes: 8-byte accesses go by halves of the warp, 16-byte ones by quarters; in
/// each, a bank gives one word a cycle, to however many lanes. Where all lanes n and n ^ 1, or all n and n ^
/// 2, read the same address, a load takes twice as many lanes at once (as NVIDIA says of its processors from
/// Volta on in the answer
/// https://forums.developer.nvidia.com/t/unexpected-shared-memory-bank-conflict/77228).
Passes bank_passes(const std::uintptr_t (&address)[kWarpSize], unsigned lanes, unsigned bytes, bool load);

class Requests {
 public:
  void begin_launch();
  void begin_block(unsigned threads);
  /// Lane `linear` of the block accesses memory.
  void access(unsigned linear, const void* at, Kind kind, std::uintptr_t address, unsigned bytes);
  /// It executes something without an address.
  void execute(unsigned linear, const void* at, Kind kind) {
    ++cost_;
    unsigned& done = use(linear, at, kind).done[linear % kWarpSize];
    ++done;
  }
  /// It arrives where the lanes of `mask` meet.
  void arrive(unsigned linear, unsigned mask);
  void leave_block(unsigned linear);

  std::uint64_t cost() const { return cost_; }
  /// Moves what was counted since begin_launch.
  void finish_launch(LaunchProfile& launch);

 private:
  struct Request {
    unsigned lanes, bytes;
    std::uintptr_t address[kWarpSize];
  };
  /// What a warp has done at one place since its lanes met.
  struct Use {
    bool pending = false;
    std::array<unsigned, kWarpSize> done{};
    std::vector<Request> requests;
  };
  struct Warp {
    unsigned launched = 0, exited = 0, arrived = 0;
    std::vector<Use> uses;          // by place
    std::vector<unsigned> touched;  // the pending ones
  };
  struct TouchedPage {
    Page page;
    std::uint64_t block = 0, in_block = 0;  // sectors that the block of this number has touched
  };

  Use& use(unsigned linear, const void* at, Kind kind) {
    Warp& warp = warps_[linear / kWarpSize];
    const unsigned place = place_of(at, kind);
    if (place >= warp.uses.size()) warp.uses.resize(places_.size());
    Use& found = warp.uses[place];
    if (!found.pending) {
      found.pending = true;
      warp.touched.push_back(place);
    }
    return found;
  }
  unsigned place_of(const void* at, Kind kind) {
    for (std::size_t slot = hash(at, kind);; ++slot) {
      const unsigned index = table_[slot % table_.size()];
      if (index == 0) return add_place(at, kind);
      if (places_[index - 1].at == at && places_[index - 1].kind == kind) return index - 1;
    }
  }
  static std::size_t hash(const void* at, Kind kind) {
    return (reinterpret_cast<std::uintptr_t>(at) * 8 + static_cast<std::size_t>(kind)) *
               0x9e3779b97f4a7c15u >>
           40;
  }
  unsigned add_place(const void* at, Kind kind);
  void complete_if_all_arrived(Warp& warp);
  void complete(Warp& warp);
  void complete(const Request& request, const Warp& warp, Place& place);
  void touch(std::uintptr_t sector, bool written);

  std::array<Warp, kMaxThreads / kWarpSize> warps_;
  std::vector<Place> places_;
  std::vector<unsigned> table_;  // open hashing: place + 1, 0 where empty
  std::unordered_map<std::uintptr_t, TouchedPage> pages_;
  TouchedPage* last_page_ = nullptr;
  std::uintptr_t last_page_number_ = 0;
  std::uint64_t cost_ = 0, block_ = 0, block_sectors_ = 0;
};

}  // namespace fovea::simt::profile
