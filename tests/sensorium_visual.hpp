// A model of the golden sessions of static images, trained once by the program, for the tests of its
// commands.
#pragma once
#include "cli_lab.hpp"
#include "models/json.hpp"
#include "sensorium_fixture.hpp"

namespace sensorium_test {

inline constexpr auto gaussian_text = R"(experiment: gaussian
seed: 7
output: runs
model:
  class: FiringRateEncoder
  in_shape: [1, 9, 14]
  core: {class: Stacked2dCore, input_channels: 1, hidden_channels: 3, input_kern: 3, hidden_kern: 3, layers: 2}
  readout: {class: FullGaussian2d, bias: true, gauss_type: full, init_sigma: 0.1,
            grid_mean_predictor: {hidden_layers: 1, hidden_features: 4, final_tanh: true}}
  shifter: {class: MLPShifter, input_channels: 2, hidden_channels_shifter: 3, shift_layers: 2}
  loss: {class: PoissonLoss}
  learning_rate: 0.01
data:
  format: sensorium_static
  paths: [FIRST, SECOND]
  batch_size: 4
training: {max_epochs: 2}
)";

inline std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  if (at == std::string::npos) throw Error("test", "no " + what);
  return text.replace(at, what.size(), by);
}

/// A folder with configurations of the golden zips, and the model of one, made once.
class Visual : public CommandFolder {
 public:
  static const Visual& get() {
    static const Visual visual;
    return visual;
  }
  const std::string& model() const { return model_; }
  const std::string& run_folder() const { return run_; }
  const CommandResult& training() const { return training_; }

  /// The run folder of a training.
  std::string trained(const std::string& experiment, std::vector<std::string> more) const {
    more.insert(more.begin(), "train");
    more.push_back("experiment=" + experiment);
    done(more);
    return newest_run(experiment);
  }

 private:
  Visual() {
    std::string config = replaced(gaussian_text, "FIRST", golden_zip(golden_keys[0]));
    config = replaced(config, "SECOND", golden_zip(golden_keys[1]));
    write_bytes(*this / "gaussian.yaml", config);
    config = replaced(
        config, config.substr(config.find("  readout:"), config.find("  loss:") - config.find("  readout:")),
        "  readout: {class: FullFactorized2d, bias: true}\n");
    write_bytes(*this / "factorized.yaml",
                replaced(config, "experiment: gaussian", "experiment: factorized"));
    training_ = done({"train", "gaussian.yaml", "--threads", "1"});
    run_ = newest_run("gaussian");
    model_ = run_ + "/model.safetensors";
  }

  std::string run_, model_;
  CommandResult training_;
};

}  // namespace sensorium_test
