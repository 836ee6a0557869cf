// Every configuration in configs/ (environment variable FOVEA_CONFIGS) trains for a few steps as it stands,
// on a simulated recording of the salamander's shapes.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "cli_run.hpp"
#include "fovea/model.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

namespace fs = std::filesystem;

std::vector<std::string> config_paths() {
  const char* folder = std::getenv("FOVEA_CONFIGS");
  if (!folder || !*folder) throw Error("test", "the environment variable FOVEA_CONFIGS is not set");
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// The only run folder under a folder of runs.
std::string run_folder(const std::string& runs) {
  for (const auto& experiment : fs::directory_iterator(runs))
    for (const auto& run : fs::directory_iterator(experiment)) return run.path().string();
  return {};
}

}  // namespace

TEST_CASE("every configuration trains as it stands, and there is one for every class") {
  const TemporaryFolder folder;
  const auto done = [&](const std::vector<std::string>& arguments) {
    const CommandResult result = run_command(folder.path(), arguments);
    CHECK_MESSAGE(result.status == 0, result.err);
    return result;
  };
  done({"simulate", "salamander", "--neurons", "113", "--frames", "1000", "--size", "32", "32", "--seed",
        "4"});
  done({"simulate", "demo", "--neurons", "113", "--frames", "1000", "--size", "24", "24", "--seed", "4"});
  done({"simulate", "cortex", "--format", "sensorium", "--neurons", "12", "--frames", "20", "--seed", "4"});
  std::string cortex;
  for (const auto& entry : fs::directory_iterator(folder / "cortex"))
    if (entry.is_directory()) cortex += (cortex.empty() ? "" : ",") + entry.path().string();
  std::set<std::string> classes;
  for (const std::string& path : config_paths()) {
    CAPTURE(path);
    const std::string runs = "runs-" + fs::path(path).stem().string();
    const bool images = path.find("sensorium") != std::string::npos;
    std::vector<std::string> arguments{"train", path, "output=" + runs, "training.max_epochs=1"};
    if (images) {
      arguments.insert(arguments.end(), {"data.paths=[" + cortex + "]", "data.batch_size=10"});
    } else {
      const std::string recording = path.find("demo") == std::string::npos ? "salamander" : "demo";
      arguments.insert(arguments.end(),
                       {"data.path=" + recording, "data.num_val_clips=1", "data.batch_size=2"});
    }
    const CommandResult result = done(arguments);
    CHECK(result.out.find(images ? "over 23 neurons" : "over 113 neurons") != std::string::npos);
    const std::string run = run_folder(folder / runs);
    REQUIRE(!run.empty());
    std::ifstream metrics(run + "/metrics.csv");
    std::string header, row;
    std::getline(metrics, header);
    std::getline(metrics, row);
    CHECK(std::stoi(row.substr(row.find(',') + 1)) >= 2);  // optimizer steps
    const LoadedModel loaded = load_model(run + "/model.safetensors", {cpu_device(1), DType::f32});
    classes.insert(loaded.model->class_name());
  }
  CHECK(classes == std::set<std::string>{"CoreReadout", "FiringRateEncoder", "KlindtCoreReadout2D",
                                         "KlindtCoreReadout3D"});
}
