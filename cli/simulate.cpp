#include "cli/common.hpp"
#include "data/simulated_retina.hpp"

namespace fovea::cli {

void add_simulate(CLI::App& app, Run& run) {
  struct Options {
    std::string folder;
    SimulatedRetinaOptions retina;
    std::vector<std::int64_t> size{24, 24};
    DeviceChoice device;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "simulate", "Writes the recording of a simulated retina with known receptive fields");
  command->add_option("DIR", options->folder, "folder to write, new or empty")->required();
  command->add_option("--format", options->retina.format, "openretina")->capture_default_str();
  command->add_option("--neurons", options->retina.neurons, "ganglion cells")->capture_default_str();
  command->add_option("--frames", options->retina.frames, "frames of the training movie")
      ->capture_default_str();
  command->add_option("--size", options->size, "height and width in pixels")
      ->expected(2)
      ->capture_default_str();
  add_seed_option(*command, options->retina.seed, "of everything");
  add_device_options(*command, options->device);
  command->footer("Example: fovea simulate retina --neurons 48 --frames 24000 --size 24 24 --seed 1");
  command->callback([=, &run] {
    run = [=] {
      (void)open_device(
          options->device);  // an error where it is not to be had; the simulation is exact on any
      SimulatedRetinaOptions retina = options->retina;
      retina.height = options->size[0];
      retina.width = options->size[1];
      simulate_retina(retina, options->folder);
      return 0;
    };
  });
}

}  // namespace fovea::cli
