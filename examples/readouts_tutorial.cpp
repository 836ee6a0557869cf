// The readouts tutorial of neuralpredictors, cell by cell, and beyond: factorized and Gaussian readouts of
// two sessions on one core, trained and looked at.
//   readouts_tutorial SESSION SESSION [EPOCHS [PICTURE.svg]]
// A session is a folder or zip in the layout of Sensorium 2022, published or by `fovea simulate DIR --format
// sensorium`.
#include <cstdlib>
#include <iostream>

#include "fovea/evaluation.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "fovea/multi_readout.hpp"
#include "fovea/receptive_fields.hpp"
#include "fovea/static_loaders.hpp"
#include "fovea/training.hpp"

using namespace fovea;

namespace {

constexpr double gibibyte = 1 << 30;

void print_sizes(const MultiReadoutBase& readouts) {
  std::int64_t parameters = 0;
  for (const std::string& key : readouts.keys()) {
    const SessionReadout readout = readouts[key];
    std::cout << key << ':';
    for (const NamedTensor& one : readout.tensors())
      if (one.role == Role::parameter) std::cout << ' ' << one.name << ' ' << one.tensor.shape();
    std::cout << ", " << readout.parameter_count() << " parameters, " << readout.parameter_count() * 4
              << " bytes\n";
    parameters += readout.parameter_count();
  }
  std::cout << "both: " << parameters << " parameters, " << static_cast<double>(parameters) * 4 / gibibyte
            << " GiB\n";
}

void print_weight(const SessionReadout& readout) {
  std::cout << "weight: " << readout.weight_shape() << " = " << readout.weight_shape().elements()
            << " numbers = " << readout.weight_bytes()
            << " bytes = " << static_cast<double>(readout.weight_bytes()) / gibibyte << " GiB\n";
  try {
    const Tensor all = readout.weight();
    std::cout << "all of it in memory: " << all.shape() << '\n';
  } catch (const DeviceError& error) {
    std::cout << "all of it does not fit: " << error.what() << '\n';
  }
  const Tensor one = readout.weight(/*first=*/0, /*count=*/1);
  std::cout << "of one neuron: " << one.shape() << ", " << one.bytes() << " bytes\n";
}

void tutorial(const std::vector<std::string>& filenames, std::int64_t epochs, const std::string& picture) {
  // [1]
  const std::uint64_t random_seed = 42;

  // [2]
  const StaticLoaders dataloaders = static_loaders({.paths = filenames,
                                                    .batch_size = 32,
                                                    .normalize = true,
                                                    .include_behavior = false,
                                                    .include_eye_position = true,
                                                    .scale = 1});

  // [3]
  Stacked2dCoreOptions model_config{.hidden_channels = 64,
                                    .input_kern = 9,
                                    .hidden_kern = 7,
                                    .layers = 4,
                                    .gamma_input = 6.3831,
                                    .stack = -1,
                                    .depth_separable = true};

  // [4]
  const LoaderDict& train_dataloaders = dataloaders.train;
  const std::vector<std::string> fields = train_dataloaders.begin()->second.fields();
  const std::string in_name = fields[0], out_name = fields[1];

  const auto session_shape_dict = get_dims_for_loader_dict(train_dataloaders);
  for (const auto& [key, shapes] : session_shape_dict) {
    std::cout << key << ':';
    for (const auto& [field, shape] : shapes) std::cout << ' ' << field << ' ' << shape;
    std::cout << '\n';
  }
  model_config.input_channels = session_shape_dict.begin()->second[in_name][1];
  std::cout << "input channels: " << model_config.input_channels << '\n';

  Random random = set_random_seed(random_seed);
  const Stacked2dCore core(model_config, random);
  std::cout << "core: " << core.parameter_count() << " parameters\n";

  // [5]
  SessionDict<Shape> in_shapes_dict;
  SessionDict<std::int64_t> n_neurons_dict;
  for (const auto& [key, shapes] : session_shape_dict) {
    const Shape maps = get_module_output(core, shapes[in_name]);
    in_shapes_dict.add(key, {maps[1], maps[2], maps[3]});
    n_neurons_dict.add(key, shapes[out_name][1]);
    std::cout << key << ": maps " << in_shapes_dict[key] << ", " << n_neurons_dict[key] << " neurons\n";
  }
  const std::string session = in_shapes_dict.begin()->first;

  {
    // [7]
    const MultiReadoutBase factorized_readout({.in_shape_dict = in_shapes_dict,
                                               .n_neurons_dict = n_neurons_dict,
                                               .base_readout = FullFactorized2dOptions{.bias = true}},
                                              random);
    // [8]
    std::cout << factorized_readout[session] << '\n';
    // [24]: the cell that killed the kernel
    print_weight(factorized_readout[session]);
    // [10]
    std::cout << factorized_readout << '\n';
    print_sizes(factorized_readout);
  }

  // Gaussian readout
  const MultiReadoutBase gaussian_readout({.in_shape_dict = in_shapes_dict,
                                           .n_neurons_dict = n_neurons_dict,
                                           .base_readout = FullGaussian2dOptions{.bias = true}},
                                          random);
  std::cout << gaussian_readout[session] << '\n' << gaussian_readout << '\n';
  print_sizes(gaussian_readout);

  // Beyond: a whole model of core, Gaussian readouts and shifters, trained on both sessions
  const Shape images = dataloaders.data.sessions.front().image_shape();
  FiringRateEncoder model(
      {.in_shape = {images[0], images[1], images[2]},
       .core = model_config,
       .readout =
           FullGaussian2dOptions{
               .bias = true, .init_mu_range = 0.3, .init_sigma = 0.1, .feature_reg_weight = 0.0076},
       .shifter = MLPShifterOptions{.hidden_channels_shifter = 5, .shift_layers = 3},
       .learning_rate = 0.009},
      dataloaders.data.session_options(), random_seed);
  std::cout << model->describe(model->in_shape()).tree << '\n';

  RunOptions options;
  options.training.max_epochs = epochs;
  options.seed = random_seed;
  TrainingHooks hooks;
  hooks.on_epoch = [](const EpochMetrics& epoch, bool best) {
    std::cout << "epoch " << epoch.epoch << ": loss " << epoch.train_loss << ", validation correlation "
              << epoch.val_evaluation_loss << (best ? ", best" : "") << std::endl;
  };
  train(model, dataloaders.data, options, hooks);

  for (const SessionScores& one : evaluate_tests(model, dataloaders.data)) {
    const ScoreSummary summary = summarize({one});
    std::cout << one.session << ": test correlation to the average " << summary.mean_correlation
              << ", single trial " << summary.mean_single_trial_correlation << " over " << summary.neurons
              << " neurons\n";
  }
  write_position_picture(picture, model);
  std::cout << "positions of the receptive fields: " << picture << '\n';
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3 || count > 5) {
    std::cerr << "usage: readouts_tutorial SESSION SESSION [EPOCHS [PICTURE.svg]]\n";
    return 2;
  }
  try {
    tutorial({arguments[1], arguments[2]}, count > 3 ? std::atol(arguments[3]) : 5,
             count > 4 ? arguments[4] : "positions.svg");
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
