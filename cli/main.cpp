// The program: parses the command line, runs one command, turns errors into messages and exit statuses
// (0 done, 1 the work failed, 2 wrong usage).
#include <iostream>

#include "cli/common.hpp"

int main(int count, char** arguments) {
  using namespace fovea::cli;
  CLI::App app{"fovea: train and run neural-encoding models of the retina and visual cortex", "fovea"};
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::help);
  Run run;
  for (const auto add :
       {add_train, add_eval, add_predict, add_gradients, add_describe, add_data, add_simulate, add_version})
    add(app, run);
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    if (dynamic_cast<const CLI::ConversionError*>(&error) ||
        dynamic_cast<const CLI::ValidationError*>(&error)) {
      std::cerr << "fovea: [command line] wrong value: " << error.what() << '\n';
      return 1;
    }
    const bool no_command = app.get_subcommands().empty() && app.remaining_size() > 0;
    std::cerr << "fovea: " << (no_command ? "there is no command " + app.remaining().front() : error.what())
              << "\nRun with --help for more information.\n";
    return 2;
  }
  try {
    return run();
  } catch (const fovea::Error& error) {
    std::cerr << "fovea: " << error.what() << '\n';
  } catch (const std::bad_alloc&) {
    std::cerr << "fovea: [memory] the system has no more\n";
  } catch (const std::exception& error) {
    std::cerr << "fovea: [system] " << error.what() << '\n';
  }
  return 1;
}
