#include "engine/profiler/requests.hpp"

#include <algorithm>
#include <numeric>

namespace fovea::simt::profile {

Counts& Counts::operator+=(const Counts& other) {
  requests += other.requests;
  lanes += other.lanes;
  launched += other.launched;
  bytes += other.bytes;
  sectors += other.sectors;
  passes += other.passes;
  fewest_passes += other.fewest_passes;
  return *this;
}

Counts LaunchProfile::total(Kind kind) const {
  Counts sum;
  for (const Place& place : places)
    if (place.kind == kind) sum += place.counts;
  return sum;
}

namespace {

/// With `together` lanes at once.
Passes passes_of(const std::uintptr_t (&address)[kWarpSize], unsigned lanes, unsigned words,
                 unsigned together) {
  constexpr unsigned banks = 32;
  Passes passes{0, 0};
  for (unsigned first = 0; first < kWarpSize; first += together) {
    std::uintptr_t seen[banks][2 * banks];  // distinct words by bank
    unsigned count[banks] = {}, most = 0;
    for (unsigned lane = first; lane < first + together; ++lane) {
      if (!(lanes >> lane & 1)) continue;
      for (unsigned w = 0; w < words; ++w) {
        const std::uintptr_t at = address[lane] / kBankBytes + w, bank = at % banks;
        const auto end = seen[bank] + count[bank];
        if (std::find(seen[bank], end, at) != end) continue;
        *end = at;
        most = std::max(most, ++count[bank]);
      }
    }
    passes.taken += most;
    passes.fewest += most > 0;
  }
  return passes;
}

}  // namespace

Passes bank_passes(const std::uintptr_t (&address)[kWarpSize], unsigned lanes, unsigned bytes, bool load) {
  const auto pairs_agree = [&](unsigned apart) {
    for (unsigned lane = 0; lane < kWarpSize; ++lane)
      if ((lanes >> lane & 1) && (lanes >> (lane ^ apart) & 1) && address[lane] != address[lane ^ apart])
        return false;
    return true;
  };
  const unsigned words = std::max(bytes / kBankBytes, 1u), together = kWarpSize / words;
  const Passes passes = passes_of(address, lanes, words, together);
  if (!load || words == 1 || !(pairs_agree(1) || pairs_agree(2))) return passes;
  const Passes doubled = passes_of(address, lanes, words, 2 * together);
  return doubled.taken < passes.taken ? doubled : passes;
}

void Requests::begin_launch() {
  places_.clear();
  table_.assign(1024, 0);
  pages_.clear();
  last_page_ = nullptr;
  cost_ = block_sectors_ = 0;
  for (Warp& warp : warps_) warp.uses.clear();
}

void Requests::begin_block(unsigned threads) {
  ++block_;
  for (unsigned w = 0; w < warps_.size(); ++w) {
    const unsigned first = w * kWarpSize, count = threads > first ? std::min(threads - first, kWarpSize) : 0;
    warps_[w].launched = count == kWarpSize ? ~0u : (1u << count) - 1;
    warps_[w].exited = warps_[w].arrived = 0;
  }
}

void Requests::access(unsigned linear, const void* at, Kind kind, std::uintptr_t address, unsigned bytes) {
  ++cost_;
  Use& own = use(linear, at, kind);
  const unsigned lane = linear % kWarpSize, turn = own.done[lane]++;
  if (turn == own.requests.size()) own.requests.push_back({0, bytes, {}});
  own.requests[turn].lanes |= 1u << lane;
  own.requests[turn].address[lane] = address;
}

unsigned Requests::add_place(const void* at, Kind kind) {
  places_.push_back({at, kind, {}});
  const auto insert = [&](unsigned place) {
    std::size_t slot = hash(places_[place].at, places_[place].kind);
    while (table_[slot % table_.size()]) ++slot;
    table_[slot % table_.size()] = place + 1;
  };
  if (places_.size() * 4 > table_.size()) {
    table_.assign(table_.size() * 4, 0);
    for (unsigned place = 0; place < places_.size(); ++place) insert(place);
  } else {
    insert(static_cast<unsigned>(places_.size() - 1));
  }
  return static_cast<unsigned>(places_.size() - 1);
}

void Requests::arrive(unsigned linear, unsigned mask) {
  Warp& warp = warps_[linear / kWarpSize];
  const unsigned there = warp.launched & ~warp.exited;
  if ((mask & there) != there) return;  // a part of the warp: the others are elsewhere
  warp.arrived |= 1u << linear % kWarpSize;
  complete_if_all_arrived(warp);
}

void Requests::leave_block(unsigned linear) {
  Warp& warp = warps_[linear / kWarpSize];
  warp.exited |= 1u << linear % kWarpSize;
  complete_if_all_arrived(warp);
}

void Requests::complete_if_all_arrived(Warp& warp) {
  if (warp.arrived != (warp.launched & ~warp.exited)) return;
  warp.arrived = 0;
  complete(warp);
}

void Requests::complete(Warp& warp) {
  const auto launched = static_cast<std::uint64_t>(__builtin_popcount(warp.launched));
  for (const unsigned index : warp.touched) {
    Use& use = warp.uses[index];
    Place& place = places_[index];
    if (use.requests.empty()) {  // without addresses: the lane that did most says how often the warp did it
      const std::uint64_t turns = *std::max_element(use.done.begin(), use.done.end());
      place.counts.requests += turns;
      place.counts.lanes += std::accumulate(use.done.begin(), use.done.end(), std::uint64_t{0});
      place.counts.launched += turns * launched;
    }
    for (const Request& request : use.requests) complete(request, warp, place);
    use.requests.clear();
    use.done.fill(0);
    use.pending = false;
  }
  warp.touched.clear();
}

void Requests::complete(const Request& request, const Warp& warp, Place& place) {
  Counts& counts = place.counts;
  const auto lanes = static_cast<unsigned>(__builtin_popcount(request.lanes));
  ++counts.requests;
  counts.lanes += lanes;
  counts.launched += static_cast<unsigned>(__builtin_popcount(warp.launched));
  counts.bytes += std::uint64_t{lanes} * request.bytes;
  if (place.kind == Kind::global_read || place.kind == Kind::global_write) {
    counts.sectors +=
        distinct_sectors(request.address, request.lanes, request.bytes,
                         [&](std::uintptr_t sector) { touch(sector, place.kind == Kind::global_write); });
  } else {
    const Passes passes =
        bank_passes(request.address, request.lanes, request.bytes, place.kind == Kind::shared_read);
    counts.passes += passes.taken;
    counts.fewest_passes += passes.fewest;
  }
}

void Requests::touch(std::uintptr_t sector, bool written) {
  constexpr unsigned per_page = kPageBytes / kSectorBytes;
  if (const std::uintptr_t number = sector / per_page; !last_page_ || number != last_page_number_) {
    last_page_ = &pages_[number];
    last_page_number_ = number;
  }
  TouchedPage& touched = *last_page_;
  const std::uint64_t bit = std::uint64_t{1} << sector % per_page;
  (written ? touched.page.written : touched.page.read) |= bit;
  if (touched.block != block_) {
    touched.block = block_;
    touched.in_block = 0;
  }
  block_sectors_ += !(touched.in_block & bit);
  touched.in_block |= bit;
}

void Requests::finish_launch(LaunchProfile& launch) {
  launch.places = std::move(places_);
  places_.clear();
  for (const auto& [number, touched] : pages_) launch.pages[number] = touched.page;
  launch.block_sectors = block_sectors_;
}

}  // namespace fovea::simt::profile
