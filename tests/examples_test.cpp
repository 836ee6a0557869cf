// The example programs do what they say (their folder: environment variable FOVEA_EXAMPLES).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include "cli_run.hpp"
#include "fovea/device.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

struct ExampleResult {
  int status = -1;
  std::string out;
};

ExampleResult run_example(const std::string& folder, const std::string& command) {
  const char* examples = std::getenv("FOVEA_EXAMPLES");
  if (!examples) throw Error("test", "the environment variable FOVEA_EXAMPLES is not set");
  const std::string line = text("cd '", folder, "' && '", examples, "/'", command, " 2>&1");
  FILE* pipe = ::popen(line.c_str(), "r");
  if (!pipe) throw Error("test", "popen failed");
  ExampleResult result;
  for (int c; (c = std::fgetc(pipe)) != EOF;) result.out += static_cast<char>(c);
  result.status = WEXITSTATUS(::pclose(pipe));
  return result;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("custom_op checks its gradient and fits") {
  const TemporaryFolder folder;
  const ExampleResult result = run_example(folder.path(), "custom_op");
  CAPTURE(result.out);
  CHECK(result.status == 0);
  CHECK(contains(result.out, "gradcheck: passed, 4 entries"));
}

TEST_CASE("train_core_readout trains, tests and predicts") {
  const TemporaryFolder folder;
  const auto simulated = run_command(folder.path(), {"simulate", "retina", "--neurons", "6", "--frames",
                                                     "8000", "--size", "16", "16", "--seed", "3"});
  REQUIRE(simulated.status == 0);
  const ExampleResult result = run_example(folder.path(), "train_core_readout retina wn_test 3");
  CAPTURE(result.out);
  CHECK(result.status == 0);
  CHECK(contains(result.out, "GaussianMaskReadout (8 x 6 x 6 -> 6)"));
  CHECK(contains(result.out, "epoch 2: validation correlation"));
  CHECK(contains(result.out, "frames of 6 neurons predicted"));
  const std::string label = "test correlation ";
  CHECK(std::atof(result.out.c_str() + result.out.find(label) + label.size()) > 0.05);

  const ExampleResult refused = run_example(folder.path(), "train_core_readout retina nothing 3");
  CHECK(refused.status == 1);
  CHECK(contains(refused.out, "[openretina_hdf5] "));
  CHECK(run_example(folder.path(), "train_core_readout").status == 2);
}

TEST_CASE("readouts_tutorial prints the lines of the tutorial and trains") {
  const TemporaryFolder folder;
  const auto simulated = run_command(folder.path(), {"simulate", "cortex", "--format", "sensorium",
                                                     "--neurons", "12", "--frames", "40", "--seed", "3"});
  REQUIRE(simulated.status == 0);
  const std::string hash = "-GrayImageNet-94c6ff995dac583098847cfecd43e7b6";
  const std::string sessions = text("cortex/static21067-10-18", hash, " cortex/static22846-10-16", hash);
  const ExampleResult result =
      run_example(folder.path(), text("readouts_tutorial ", sessions, " 2 positions.svg"));
  CAPTURE(result.out);
  REQUIRE(result.status == 0);
  std::vector<std::string> lines;
  std::istringstream stream(result.out);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  // In this order, whole lines; others may lie between.
  const std::vector<std::string> expected{
      "21067-10-18: images (32, 1, 36, 64) responses (32, 12) pupil_center (32, 2)",
      "22846-10-16: images (32, 1, 36, 64) responses (32, 11) pupil_center (32, 2)",
      "input channels: 1",
      "core: 40256 parameters",
      "21067-10-18: maps (64, 36, 64), 12 neurons",
      "22846-10-16: maps (64, 36, 64), 11 neurons",
      "FullFactorized2d (64 x 36 x 64 -> 12) with bias, normalized",
      "all of it in memory: (12, 64, 36, 64)",
      "of one neuron: (1, 64, 36, 64), 589824 bytes",
      "MultiReadoutBase(",
      "  (21067-10-18): FullFactorized2d (64 x 36 x 64 -> 12) with bias, normalized",
      "  (22846-10-16): FullFactorized2d (64 x 36 x 64 -> 11) with bias, normalized",
      ")",
      "21067-10-18: _features (12, 64) spatial (12, 36, 64) bias (12), 28428 parameters, 113712 bytes",
      "full FullGaussian2d (64 x 36 x 64 -> 12) with bias",
      "MultiReadoutBase(",
      "  (21067-10-18): full FullGaussian2d (64 x 36 x 64 -> 12) with bias",
      "  (22846-10-16): full FullGaussian2d (64 x 36 x 64 -> 11) with bias",
      ")",
      "21067-10-18: _mu (1, 12, 1, 2) sigma (1, 12, 2, 2) _features (1, 64, 1, 12) bias (12), 852 "
      "parameters, "
      "3408 bytes",
      "positions of the receptive fields: positions.svg"};
  std::size_t at = 0;
  for (const std::string& line : expected) {
    const auto found = std::find(lines.begin() + static_cast<std::ptrdiff_t>(at), lines.end(), line);
    CAPTURE(line);
    REQUIRE(found != lines.end());
    at = static_cast<std::size_t>(found - lines.begin()) + 1;
  }
  CHECK(contains(result.out, "epoch 1: loss "));
  CHECK(contains(result.out, "22846-10-16: test correlation to the average "));
  std::ifstream picture(folder / "positions.svg");
  const std::string svg{std::istreambuf_iterator<char>(picture), {}};
  std::size_t dots = 0;
  for (std::size_t i = svg.find("<circle"); i != std::string::npos; i = svg.find("<circle", i + 1)) ++dots;
  CHECK(dots == 23);

  const ExampleResult refused = run_example(folder.path(), "readouts_tutorial cortex nowhere");
  CHECK(refused.status == 1);
  CHECK(contains(refused.out, "cortex"));
}
