// What the profile says of counts: predictions, limits and the printed table.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "bench/kernel_profile.hpp"
#include "tests/profiler/planted_kernels.hpp"

using namespace fovea;
using namespace fovea::bench;
using simt::profile::Counts;
using simt::profile::Kind;
using simt::profile::LaunchProfile;

namespace {

LaunchProfile launch_of(std::uint64_t blocks, std::vector<simt::profile::Place> places) {
  LaunchProfile launch;
  launch.grid = static_cast<unsigned>(blocks);
  launch.block = 256;
  launch.blocks = blocks;
  launch.sampled = 1;
  launch.places = std::move(places);
  return launch;
}

Counts requests(std::uint64_t count) {
  Counts counts;
  counts.requests = count;
  return counts;
}

/// Rows of a planted kernel as an entry.
EntryReport entry_of(Rule rule, double operand_bytes, double flops) {
  EntryReport entry;
  entry.entry = "planted";
  entry.work = {flops, operand_bytes, "1x1"};
  entry.rule = rule;
  entry.rule_bytes = operand_bytes;
  entry.calls = 1;
  for (LaunchProfile& launch : simt::profile::take_launches()) {
    const auto bytes =
        static_cast<double>(launch.total(Kind::global_read).bytes + launch.total(Kind::global_write).bytes);
    entry.launches.push_back({std::move(launch), bytes, bytes});
  }
  return entry;
}

std::string printed(const EntryReport& entry, Outside& outside, const std::string& lines = "") {
  ReportOptions options;
  options.lines = lines;
  options.out = std::tmpfile();
  REQUIRE(options.out);
  print_report("W9, batch 1", {entry}, options, outside);
  std::rewind(options.out);
  std::string output(1 << 16, '\0');
  output.resize(std::fread(output.data(), 1, output.size(), options.out));
  std::fclose(options.out);
  return output;
}

}  // namespace

TEST_CASE("predicted times") {
  Counts shared = requests(1000);
  shared.passes = 8000;
  shared.fewest_passes = 1000;
  const LaunchProfile launch =
      launch_of(133, {{nullptr, Kind::fma, requests(100000)}, {nullptr, Kind::shared_read, shared}});
  const h100::Prediction p = h100::predict(launch, 3.35e6, 0);
  // One multiprocessor has two blocks, and four instructions begin in a cycle.
  CHECK(p.fma == doctest::Approx(2 * 101000 / 4.0 / 1.98e9));
  CHECK(p.shared == doctest::Approx(2 * 8000 / 1.98e9));
  CHECK(p.memory == doctest::Approx(1e-6));
  CHECK(p.seconds() == p.fma);
  CHECK(std::string(p.bound()) == "fma");
  CHECK(p.resident == 8);
  CHECK(p.waves == 1);
  CHECK(h100::predict(launch_of(132 * 8 + 1, {}), 0, 0).waves == 2);
  // Full blocks of multiply-adds run at the roof.
  const h100::Prediction full =
      h100::predict(launch_of(132, {{nullptr, Kind::fma, requests(1 << 20)}}), 0, 0);
  CHECK(full.seconds() == doctest::Approx(132.0 * 32 * 2 * (1 << 20) / h100::kFlops));
  CHECK(h100::kFlops == doctest::Approx(66.9e12).epsilon(0.001));
}

TEST_CASE("registers and shared memory bound the blocks of a multiprocessor") {
  LaunchProfile launch = launch_of(1000, {});
  CHECK(h100::predict(launch, 0, 128).resident == 2);
  CHECK(h100::predict(launch, 0, 64).resident == 4);
  launch.dynamic_shared = 75 * 1024;
  CHECK(h100::predict(launch, 0, 0).resident == 3);

  const std::string file = (std::filesystem::temp_directory_path() / "fovea_report_test.json").string();
  std::ofstream(file)
      << R"({"sm_90": {"fovea::cuda::(anonymous namespace)::a<4, fovea::cuda::B>": {"registers": 40},
      "fovea::cuda::a<1, X>": {"registers": 90}, "fovea::cuda::readout::b [x.cu]": {"registers": 20}}})";
  const h100::Registers registers(file);
  std::filesystem::remove(file);
  CHECK(registers.of(h100::short_name(
            "void fovea::profiled::(anonymous namespace)::a<4, fovea::profiled::B>(float*)")) == 40);
  CHECK(registers.of("a<7, Y>") == 90);  // the hungriest instance
  CHECK(registers.of("readout::b") == 20);
  CHECK(registers.of("c") == 0);
  CHECK_THROWS_WITH_AS(h100::Registers("/nowhere"), doctest::Contains("kernel-report"), Error);
}

TEST_CASE("what is outside the limits is listed") {
  std::vector<float> memory(1 << 16);
  const auto profiled = [&](Rule rule, double bytes, double flops, const auto& call) {
    (void)simt::profile::take_launches();
    call();
    return entry_of(rule, bytes, flops);
  };
  const auto copy = [&] { planted::strided_copy(memory.data(), memory.data() + 4096, 4, 1); };
  const double once = 2 * 4 * 512;
  Outside none;
  const std::string table = printed(profiled(Rule::operands, once, 0, copy), none);
  CHECK(none.lines.empty());
  CHECK(table.find("strided_copy_kernel") != std::string::npos);
  CHECK(table.find("requested   1.00x") != std::string::npos);

  Outside soft, hard;
  printed(profiled(Rule::operands, once / 1.2, 0, copy), soft);
  REQUIRE(soft.lines.size() == 1);
  CHECK(soft.hard == 0);
  CHECK(soft.lines[0].find("1.20") != std::string::npos);
  printed(profiled(Rule::operands, once / 1.6, 0, copy), hard);
  CHECK(hard.hard == 1);
  printed(profiled(Rule::none, once / 1.6, 0, copy), none);
  CHECK(none.lines.empty());

  Outside conflicts;
  printed(profiled(Rule::none, 128, 0, [&] { planted::column(memory.data(), 32); }), conflicts);
  CHECK(conflicts.hard == 1);
  printed(profiled(Rule::none, 128, 0, [&] { planted::column(memory.data(), 33); }), none);
  CHECK(none.lines.empty());

  // Arithmetic: half of what the blocks do is useful, and the floor is longer than a launch.
  Outside slow;
  EntryReport entry = profiled(Rule::none, 1, 0, [&] { planted::rounds(memory.data(), 4); });
  entry.launches[0].launch.blocks = std::uint64_t{1} << 24;
  entry.work.flops = h100::predict(entry.launches[0].launch, 0, 0).seconds() * h100::kFlops / 2;
  printed(entry, slow);
  REQUIRE(slow.lines.size() == 1);
  CHECK(slow.lines[0].find("2.00") != std::string::npos);
}

TEST_CASE("lines of a kernel") {
  std::vector<float> memory(1 << 12);
  (void)simt::profile::take_launches();
  planted::vector_copy(memory.data(), memory.data() + 1024, 1);
  Outside outside;
  const std::string table = printed(entry_of(Rule::none, 1, 0), outside, "vector_copy");
  CHECK(table.find("planted_kernels.cu:") != std::string::npos);
  CHECK(table.find(" < vectors.hpp:") != std::string::npos);
}
