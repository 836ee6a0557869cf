#include <optional>

#include "cli/common.hpp"
#include "data/simulated_cortex.hpp"
#include "data/simulated_retina.hpp"
#include "models/parameters.hpp"

namespace fovea::cli {
namespace {

/// What the command line gave; the rest are the defaults of the format.
struct SimulateOptions {
  std::string folder, format = "openretina";
  std::optional<std::int64_t> neurons, frames;
  std::vector<std::int64_t> size;  // empty, or height and width
  std::uint64_t seed = 42;
  DeviceChoice device;
};

/// Puts it into the options of a simulation.
template <class Simulation>
Simulation completed(const SimulateOptions& given) {
  Simulation options;
  options.neurons = given.neurons.value_or(options.neurons);
  options.frames = given.frames.value_or(options.frames);
  if (!given.size.empty()) {
    options.height = given.size[0];
    options.width = given.size[1];
  }
  options.seed = given.seed;
  return options;
}

/// What an option means for each format, with the defaults.
std::string either(const std::string& retina, const std::string& retina_default, const std::string& cortex,
                   const std::string& cortex_default) {
  return text("openretina: ", retina, " [", retina_default, "]; sensorium: ", cortex, " [", cortex_default,
              "]");
}

}  // namespace

void add_simulate(CLI::App& app, Run& run) {
  const SimulatedRetinaOptions retina;
  const SimulatedCortexOptions cortex;
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = app.add_subcommand(
      "simulate", "Writes the recording of a simulated retina or visual cortex with known receptive fields");
  command->add_option("DIR", options->folder, "folder to write, new or empty")->required();
  command
      ->add_option("--format", options->format,
                   "openretina: a retina, HDF5; sensorium: two sessions of a visual cortex, sensorium_static")
      ->capture_default_str();
  command->add_option(
      "--neurons", options->neurons,
      either("ganglion cells", text(retina.neurons),
             "neurons of the first session, the second has a twelfth less", text(cortex.neurons)));
  command->add_option("--frames", options->frames,
                      either("frames of the training movie", text(retina.frames),
                             "training trials of each session", text(cortex.frames)));
  command
      ->add_option("--size", options->size,
                   either("height and width in pixels", text(retina.height, ' ', retina.width), "the same",
                          text(cortex.height, ' ', cortex.width)))
      ->expected(2);
  add_seed_option(*command, options->seed, "of everything");
  add_device_options(*command, options->device);
  command->footer(
      "Example: fovea simulate retina --neurons 48 --frames 24000 --size 24 24 --seed 1\n"
      "         fovea simulate cortex --format sensorium --neurons 40 --frames 400 --size 36 64");
  command->callback([=, &run] {
    run = [=] {
      check_name("simulate", "format", options->format, {"openretina", "sensorium"});
      (void)open_device(
          options->device);  // an error where it is not to be had; the simulation is exact on any
      if (options->format == "sensorium")
        simulate_cortex(completed<SimulatedCortexOptions>(*options), options->folder);
      else
        simulate_retina(completed<SimulatedRetinaOptions>(*options), options->folder);
      return 0;
    };
  });
}

}  // namespace fovea::cli
