// Every planted mistake is caught, by its name: by the emulator as a DeviceError, by NaN, or by a sanitizer.
// What a sanitizer catches runs in a child process, which is this program with `--planted <bug>`.
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/emulator/runtime.hpp"
#include "fovea/error.hpp"
#include "tests/emulator/planted_bugs.hpp"

namespace fovea::test {
namespace {

bool built_with(const std::string& sanitizer) {
  return std::string("," FOVEA_SANITIZERS ",").find("," + sanitizer + ",") != std::string::npos;
}

std::vector<float> fresh_data() { return std::vector<float>(kPlantedThreads, 1.f); }

std::string error_of(const std::string& bug, simt::Options options = {}) {
  std::vector<float> data = fresh_data();
  try {
    run_planted(bug, data.data(), &options);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "no error";
}

struct Expected {
  const char* bug;
  const char* message;
};

void check_reported(const std::vector<Expected>& bugs) {
  for (const Expected& expected : bugs)
    for (const simt::Options options : {simt::Options{1, 0}, simt::Options{2, 1}, simt::Options{1, 2}}) {
      const std::string error = error_of(expected.bug, options);
      CAPTURE(error);
      CHECK(error.find("[emulator] " + std::string(expected.message)) == 0);
      CHECK(error.find("planted_bugs.cu:") != std::string::npos);
    }
}

TEST_CASE("barriers that cannot be met are reported") {
  check_reported({{"divergent_barrier", "divergent __syncthreads"}, {"deadlock", "deadlock"}});
  const std::string report = error_of("deadlock");
  CAPTURE(report);
  CHECK(report.find("threads 0..0 wait in __syncwarp with mask 0x00000003") != std::string::npos);
  CHECK(report.find("threads 1..63 wait in __syncthreads") != std::string::npos);
}

TEST_CASE("warp operations that cannot be met are reported") {
  check_reported({{"lane_outside_mask", "shuffle from a lane outside its mask"},
                  {"caller_outside_mask", "warp mask without its caller"},
                  {"masks_disagree", "warp masks that disagree"},
                  {"divergent_warp_operations", "divergent warp operations"},
                  {"missing_lanes", "warp operation on an exited lane"},
                  {"lane_returns", "warp operation on an exited lane"},
                  {"shuffle_width", "bad shuffle width"},
                  {"mma_in_partial_warp", "mma in a partial warp"}});
}

TEST_CASE("asynchronous copies that are misaligned or never waited for are reported") {
  check_reported(
      {{"misaligned_copy", "misaligned cp.async"}, {"copy_without_wait", "cp.async without wait"}});
}

TEST_CASE("launches and blocks beyond the limits of the hardware are reported") {
  check_reported({{"no_threads", "bad launch configuration"},
                  {"too_many_threads", "bad launch configuration"},
                  {"no_blocks", "bad launch configuration"},
                  {"too_much_dynamic_shared", "bad launch configuration"},
                  {"too_much_shared", "out of shared memory"}});
}

TEST_CASE("memory that nobody wrote reads as NaN") {
  for (const std::string bug :
       {"uninitialised_shared", "uninitialised_dynamic_shared", "copy_with_wrong_wait"}) {
    if (built_with("thread") && bug == "copy_with_wrong_wait") continue;  // there it is a race, caught below
    CAPTURE(bug);
    std::vector<float> data = fresh_data();
    run_planted(bug, data.data(), nullptr);
    int nans = 0;
    for (const float value : data) nans += std::isnan(value);
    CHECK(nans > 0);
  }
}

struct ChildResult {
  bool failed;
  std::string output;
};

ChildResult run_child(const std::string& bug) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command =
      "ASAN_OPTIONS=abort_on_error=0:detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=0 "
      "TSAN_OPTIONS=halt_on_error=1:exitcode=66 '" +
      program + "' --planted " + bug + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  ChildResult result;
  char buffer[4096];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    result.output.append(buffer, got);
  const int status = pclose(pipe);
  result.failed = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return result;
}

void check_sanitizer_catches(const std::string& report, const std::vector<std::string>& bugs) {
  for (const std::string& bug : bugs) {
    const ChildResult child = run_child(bug);
    CAPTURE(bug);
    CAPTURE(child.output);
    CHECK(child.failed);
    CHECK(child.output.find(report) != std::string::npos);
    CHECK(child.output.find("planted_bugs.cu") != std::string::npos);
  }
}

TEST_CASE("a child without a mistake in reach of the sanitizers ends well") {
  const ChildResult child = run_child("shuffle_width");
  CAPTURE(child.output);
  CHECK(!child.failed);
  CHECK(child.output.find("bad shuffle width") != std::string::npos);
}

TEST_CASE("AddressSanitizer catches accesses out of bounds (skipped unless built with it)" *
          doctest::skip(!built_with("address"))) {
  check_sanitizer_catches("AddressSanitizer",
                          {"shared_out_of_bounds", "dynamic_shared_out_of_bounds", "global_out_of_bounds"});
}

TEST_CASE("UndefinedBehaviorSanitizer catches misaligned vectors (skipped unless built with it)" *
          doctest::skip(!built_with("undefined"))) {
  check_sanitizer_catches("misaligned address", {"misaligned_vector"});
#if !defined(__clang__)  // clang does not check structs that are copied: part `undefined` of tools/test does
  check_sanitizer_catches("misaligned address", {"misaligned_vector_copy"});
#endif
}

TEST_CASE("ThreadSanitizer catches races, within a block and between blocks (skipped unless built with it)" *
          doctest::skip(!built_with("thread"))) {
  check_sanitizer_catches(
      "ThreadSanitizer: data race",
      {"copy_with_wrong_wait", "missing_barrier", "barrier_after_next_write", "shuffle_as_barrier",
       "copy_into_tile_in_use", "race_between_blocks", "race_between_blocks_behind_barriers"});
}

}  // namespace

// Ends with 0 where no sanitizer ended it: an error that the emulator reports is printed only.
int run_as_planted_child(const char* bug) {
  auto* data = new float[kPlantedThreads];
  for (int i = 0; i < kPlantedThreads; ++i) data[i] = 1.f;
  try {
    run_planted(bug, data, nullptr);
  } catch (const DeviceError& error) {
    std::puts(error.what());
  }
  delete[] data;
  return 0;
}

}  // namespace fovea::test
