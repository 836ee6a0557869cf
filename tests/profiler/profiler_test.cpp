// The profiler on kernels whose counts are known.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/profiler/requests.hpp"
#include "engine/profiler/source_lines.hpp"
#include "tests/profiler/planted_kernels.hpp"

using namespace fovea;
using namespace fovea::simt::profile;

namespace {

/// Floats from the start of a page on.
struct Array {
  explicit Array(std::size_t count) : memory(count + 1024, 1.0f) {}
  float* data() {
    const auto at = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (4096 - at % 4096) % 4096 / sizeof(float);
  }
  std::vector<float> memory;
};

template <class Call>
LaunchProfile profile_of(const Call& call) {
  (void)take_launches();
  call();
  std::vector<LaunchProfile> launches = take_launches();
  REQUIRE(launches.size() == 1);
  return launches[0];
}

double per_request(std::uint64_t count, const Counts& counts) {
  REQUIRE(counts.requests > 0);
  return static_cast<double>(count) / static_cast<double>(counts.requests);
}

struct SamplingScope {
  explicit SamplingScope(Sampling used) : before(std::exchange(sampling(), used)) {}
  ~SamplingScope() { sampling() = before; }
  Sampling before;
};

unsigned touched_sectors(const LaunchProfile& launch, std::uint64_t Page::*which) {
  unsigned count = 0;
  for (const auto& [number, page] : launch.pages)
    count += static_cast<unsigned>(__builtin_popcountll(page.*which));
  return count;
}

}  // namespace

TEST_CASE("sectors of copies with strides") {
  Array from(4096 * 4), to(4096);
  for (const auto& [stride, sectors] : {std::pair{1, 4.0}, {2, 8.0}, {32, 32.0}}) {
    const LaunchProfile launch =
        profile_of([&, s = stride] { planted::strided_copy(to.data(), from.data(), 4, s); });
    CHECK(launch.blocks == 4);
    CHECK(launch.sampled == 4);
    const Counts read = launch.total(Kind::global_read), written = launch.total(Kind::global_write);
    CHECK(read.requests == 4 * 4);
    CHECK(read.bytes == 4 * 128 * 4);
    CHECK(per_request(read.sectors, read) == sectors);
    CHECK(per_request(written.sectors, written) == 4.0);
    CHECK(written.bytes == 4 * 128 * 4);
    CHECK(read.lanes == read.launched);
    CHECK(touched_sectors(launch, &Page::read) == 16 * sectors);
    CHECK(touched_sectors(launch, &Page::written) == 16 * 4);
    CHECK(launch.block_sectors == 16 * (sectors + 4));
    CHECK(launch.total(Kind::shared_read).requests == 0);
    CHECK(launch.total(Kind::fma).requests == 0);
  }
}

TEST_CASE("four values at once are one access") {
  Array from(4096), to(4096);
  const LaunchProfile launch = profile_of([&] { planted::vector_copy(to.data(), from.data(), 2); });
  for (const Kind kind : {Kind::global_read, Kind::global_write}) {
    const Counts counts = launch.total(kind);
    CHECK(counts.requests == 2 * 4);
    CHECK(counts.bytes == 2 * 128 * 16);
    CHECK(per_request(counts.sectors, counts) == 16.0);
  }
}

TEST_CASE("asynchronous copies count where they are issued") {
  Array from(4096), to(4096);
  for (int i = 0; i < 1024; ++i) from.data()[i] = static_cast<float>(i);
  const LaunchProfile launch = profile_of([&] { planted::async_copy(to.data(), from.data(), 2); });
  CHECK(to.data()[1023] == 1023.0f);
  CHECK(launch.static_shared == 2048);
  for (const Kind kind : {Kind::global_read, Kind::shared_write, Kind::shared_read, Kind::global_write}) {
    CAPTURE(static_cast<int>(kind));
    CHECK(launch.total(kind).requests == 2 * 4);
    CHECK(launch.total(kind).bytes == 2 * 128 * 16);
  }
  CHECK(launch.total(Kind::shared_write).passes == 2 * 4 * 4);  // a quarter of a warp at a time
  CHECK(launch.total(Kind::barrier).requests == 2 * 4);
}

TEST_CASE("bank conflicts") {
  Array to(64);
  const auto written = [&](int row) {
    return profile_of([&] { planted::column(to.data(), row); }).total(Kind::shared_write);
  };
  CHECK(written(32).requests == 1);
  CHECK(written(32).passes == 32);
  CHECK(written(32).fewest_passes == 1);
  CHECK(written(33).passes == 1);
  CHECK(written(2).passes == 2);

  const LaunchProfile one_word = profile_of([&] { planted::broadcast(to.data()); });
  CHECK(one_word.total(Kind::shared_read).lanes == 32);
  CHECK(one_word.total(Kind::shared_read).passes == 1);

  const LaunchProfile vectors = profile_of([&] { planted::shared_vectors(to.data()); });
  for (const Kind kind : {Kind::shared_read, Kind::shared_write}) {
    CHECK(vectors.total(kind).requests == 1);
    CHECK(vectors.total(kind).bytes == 32 * 16);
    CHECK(vectors.total(kind).passes == 4);
    CHECK(vectors.total(kind).fewest_passes == 4);
  }
  // 8 lanes of a quarter 128 bytes apart: all in the same four banks.
  std::uintptr_t far[32];
  for (unsigned lane = 0; lane < 32; ++lane) far[lane] = 128 * lane;
  for (const bool load : {false, true}) {
    CHECK(bank_passes(far, ~0u, 16, load).taken == 32);
    CHECK(bank_passes(far, ~0u, 8, load).taken == 32);
    CHECK(bank_passes(far, 0x0000ff00u, 16, load).fewest == 1);
  }
  // Loads take two quarters at once where all lanes n and n ^ 1 (or n ^ 2) read the same, whoever else does.
  const auto passes = [](auto slot, bool load) {
    std::uintptr_t address[32];
    for (unsigned lane = 0; lane < 32; ++lane) address[lane] = 16 * slot(lane);
    return bank_passes(address, ~0u, 16, load).taken;
  };
  CHECK(passes([](unsigned lane) { return lane / 2; }, true) == 2);
  CHECK(passes([](unsigned lane) { return lane / 2; }, false) == 4);
  CHECK(passes([](unsigned lane) { return lane & ~2u; }, true) == 4);  // 8 slots in 256 bytes: no gain
  CHECK(passes([](unsigned lane) { return lane % 2 + lane / 4 * 2; }, true) == 2);
  CHECK(passes([](unsigned lane) { return lane % 4; }, true) == 4);
  CHECK(passes([](unsigned) { return 0u; }, true) == 2);
}

TEST_CASE("divergence is the share of lanes that are not there") {
  Array to(2048);
  const Counts written = profile_of([&] { planted::divergent(to.data()); }).total(Kind::global_write);
  CHECK(written.requests == 2);
  CHECK(written.lanes == 16);
  CHECK(written.launched == 64);

  // Lanes that meet in every step are counted as they run together; otherwise from the first step of each.
  const Counts together = profile_of([&] { planted::triangle(to.data(), true); }).total(Kind::global_write);
  const Counts apart = profile_of([&] { planted::triangle(to.data(), false); }).total(Kind::global_write);
  CHECK(together.requests == 32);
  CHECK(apart.requests == 32);
  CHECK(together.lanes == 32 * 33 / 2);
  CHECK(apart.lanes == 32 * 33 / 2);
  CHECK(together.sectors == 80);  // lanes 31 - step .. 31 of one row: 1 to 4 sectors, 8 times each
  CHECK(apart.sectors > together.sectors);
}

TEST_CASE("barriers and multiply-adds") {
  Array to(64);
  const LaunchProfile launch = profile_of([&] { planted::rounds(to.data(), 5); });
  CHECK(launch.total(Kind::barrier).requests == 2 * 5);
  CHECK(launch.total(Kind::fma).requests == 2 * 5 * 3);
  CHECK(launch.total(Kind::fma).lanes == 5 * (2 * 64 + 2));
}

TEST_CASE("products of tensor cores are requests of a warp, and multiply") {
  Array to(32);
  const LaunchProfile launch = profile_of([&] { planted::products(to.data(), 3); });
  CHECK(launch.total(Kind::mma).requests == 3);
  CHECK(launch.total(Kind::mma).lanes == 3 * 32);
  CHECK(launch.total(Kind::fma).requests == 0);
  CHECK(to.data()[7] == 3 * 8 * 2.0f);
}

TEST_CASE("places have lines, kernels have names") {
  Array from(1024), to(1024);
  const auto line_of = [](const LaunchProfile& launch, Kind kind) {
    std::vector<unsigned> lines;
    for (const Place& place : launch.places)
      if (place.kind == kind)
        lines.push_back(frames_of({static_cast<const char*>(place.at) - 1})[0].back().line);
    return lines;
  };
  const LaunchProfile copy = profile_of([&] { planted::strided_copy(to.data(), from.data(), 1, 1); });
  CHECK(line_of(copy, Kind::global_read) == std::vector<unsigned>{planted::kLoadLine});
  CHECK(line_of(copy, Kind::global_write) == std::vector<unsigned>{planted::kLoadLine + 1});
  CHECK(frames_of({copy.kernel})[0].back().function.find("strided_copy_kernel") != std::string::npos);
  const LaunchProfile rounds = profile_of([&] { planted::rounds(to.data(), 1); });
  std::vector<unsigned> lines = line_of(rounds, Kind::fma);
  std::sort(lines.begin(), lines.end());
  CHECK(lines == std::vector<unsigned>{planted::kFmaLine, planted::kFmaLine + 1, planted::kFmaLine + 2});
  // An inlined function comes first, its caller last.
  const LaunchProfile vectors = profile_of([&] { planted::vector_copy(to.data(), from.data(), 1); });
  for (const Place& place : vectors.places) {
    const std::vector<Frame> frames = frames_of({static_cast<const char*>(place.at) - 1})[0];
    CHECK(frames.back().file.find("planted_kernels.cu") != std::string::npos);
    CHECK(std::any_of(frames.begin(), frames.end(), [](const Frame& frame) {
      return frame.file.find("vectors.hpp") != std::string::npos;
    }));
  }
}

TEST_CASE("a sample of the blocks scales to the launch") {
  constexpr unsigned blocks = 1000;
  Array from(64), to(32 * blocks);
  const Sampling sixty_four{64, 8, 0, ~std::uint64_t{0}};
  const SamplingScope scope(sixty_four);
  const LaunchProfile launch = profile_of([&] { planted::uneven(to.data(), from.data(), blocks); });
  CHECK(launch.sampled == 64);
  CHECK(launch.scale() * 64 == doctest::Approx(1000));
  const Counts written = launch.total(Kind::global_write), read = launch.total(Kind::global_read);
  CHECK(static_cast<double>(written.bytes) * launch.scale() == doctest::Approx(32 * 4 * blocks));
  // Odd blocks read twice; of 64 sampled blocks 32 should be odd, and up to 4 more or fewer are.
  CHECK(static_cast<double>(read.bytes) * launch.scale() ==
        doctest::Approx(1.5 * 32 * 4 * blocks).epsilon(4.0 / 96));
  CHECK(touched_sectors(launch, &Page::read) == 8);
  CHECK(touched_sectors(launch, &Page::written) == 64 * 4);
  // 16 blocks write a page: blocks spread over the grid meet most of the 63.
  CHECK(std::count_if(launch.pages.begin(), launch.pages.end(),
                      [](const auto& page) { return page.second.written != 0; }) >= 45);

  const SamplingScope whole(Sampling{});  // cheap enough to run whole
  const LaunchProfile every = profile_of([&] { planted::uneven(to.data(), from.data(), blocks); });
  CHECK(every.sampled == blocks);
  CHECK(every.total(Kind::global_read).bytes == 1.5 * 32 * 4 * blocks);
  CHECK(every.total(Kind::global_write).bytes == 32 * 4 * blocks);
  CHECK(touched_sectors(every, &Page::written) == 4 * blocks);

  const SamplingScope expensive(Sampling{64, 8, 0, 1});
  CHECK(profile_of([&] { planted::uneven(to.data(), from.data(), blocks); }).sampled == 8);
}
