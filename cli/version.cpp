#include <fmt/core.h>

#include "cli/common.hpp"
#include "fovea/version.hpp"
#include "kernels/tables.hpp"

namespace fovea::cli {
namespace {

std::string entries(const Device& device, EntryOrigin origin) {
  std::string names;
  for (const EntryStatus& entry : kernel_status(device))
    if (entry.origin == origin) names += (names.empty() ? "" : ", ") + entry.name;
  return names.empty() ? "none" : names;
}

void print_kernels(const std::string& title, const Device& device) {
  fmt::print("{}\n  still on the reference: {}\n  empty: {}\n", title,
             entries(device, EntryOrigin::reference), entries(device, EntryOrigin::empty));
}

Status version(const DeviceChoice& choice) {
  fmt::print("fovea {}\n", fovea::version());
  fmt::print("compiler: {}\nbuild: {}\n", __VERSION__, FOVEA_BUILD);
  std::string isas;
  for (const Isa isa : available_isas()) isas += (isas.empty() ? "" : ", ") + to_string(isa);
  const Device chosen = open_device(choice);  // an error where it is not to be had
  if (choice.device != "auto") {
    print_kernels(choice.device + " kernels", chosen);
    return 0;
  }
  const Device cpu = cpu_device(choice.threads);
  fmt::print("runs on: {}\n", to_string(chosen.kind()));
  fmt::print("cpu: {} threads, instruction sets {} (in use: {})\n", cpu.threads(), isas,
             to_string(cpu.isa()));
  print_kernels("cpu kernels", cpu);
  try {
    print_kernels("cuda kernels (by the emulator)", emulator_device());
  } catch (const DeviceError& error) {
    fmt::print("emulator: {}\n", error.what());
  }
  try {
    print_kernels("cuda kernels", cuda_device());
  } catch (const DeviceError& error) {
    fmt::print("cuda: {}\n", error.what());
  }
  return 0;
}

}  // namespace

void add_version(CLI::App& app, Run& run) {
  CLI::App* command =
      app.add_subcommand("version", "Prints version, build options, CPU features and CUDA devices");
  command->footer("Example: fovea version");
  auto choice = std::make_shared<DeviceChoice>();
  add_device_options(*command, *choice);
  command->callback([=, &run] { run = [=] { return version(*choice); }; });
}

}  // namespace fovea::cli
