#include <fmt/core.h>

#include "cli/common.hpp"
#include "cli/scores.hpp"
#include "engine/atomic_file.hpp"
#include "fovea/evaluation.hpp"
#include "training/trainability.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string model, config, csv;
  std::vector<std::string> overrides;
  DeviceChoice device;
};

std::vector<SessionScores> scores_of_movies(const LoadedModel& loaded, const RunConfig& config) {
  const DataSet data = load_openretina(config.data, DataParts::tests);
  check_fits(*loaded.model, data, config.data);
  return evaluate_tests(*loaded.model, data, model_normalization(loaded));
}

std::vector<SessionScores> scores_of_images(const LoadedModel& loaded, const RunConfig& config) {
  const LoadedData data(config);
  data.training().check_fits(*loaded.model);
  return data.training().evaluate(*loaded.model);
}

Status eval(const Options& options) {
  const RunConfig config = read_run_config(options.config, options.overrides);
  const Device device = open_device(config, options.device);
  const LoadedModel loaded = load_model(options.model, {device, DType::f32});
  const auto scores =
      config.static_data ? scores_of_images(loaded, config) : scores_of_movies(loaded, config);
  if (!options.csv.empty()) write_file_atomically(options.csv, test_csv(scores));
  print_scores(scores);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "Scores a model on the test movies or images of a data set");
  command->add_option("MODEL", options->model, "model file")->required();
  command->add_option("--data", options->config, "run configuration whose data section is used")->required();
  command->add_option("OVERRIDES", options->overrides, "section.key=value ..");
  command->add_option("--csv", options->csv, "per-neuron table to write");
  add_device_options(*command, options->device);
  command->footer("Example: fovea eval model.safetensors --data configs/salamander_wn.yaml --csv scores.csv");
  command->callback([=, &run] { run = [=] { return eval(*options); }; });
}

}  // namespace fovea::cli
