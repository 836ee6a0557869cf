// The example programs do what they say (their folder: environment variable FOVEA_EXAMPLES).
#include <doctest/doctest.h>

#include <cstdio>

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
