// The program: parses the command line, runs one command, turns errors into messages and exit statuses
// (0 done, 1 the work failed, 2 wrong usage).
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <system_error>

#include "cli/common.hpp"

namespace {

/// One line for the terminal: files choose names and values in messages, and must not command it.
void report(const std::string& message) {
  std::string line = message;
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  std::cerr << "fovea: " << line << '\n';
}

/// The first files opened would get the numbers of standard streams that the caller closed, and messages
/// would end up in them. What is written to these streams still fails.
void occupy_standard_streams() {
  int descriptor = 0;
  while ((descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && descriptor <= STDERR_FILENO) {
  }
  if (descriptor > STDERR_FILENO) ::close(descriptor);
}

/// Results that did not reach stdout are lost: that is a failure.
int flushed(int status) {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
  throw fovea::Error("stdout", "cannot be written: " + std::system_category().message(errno));
}

/// CLI11 would take the argument after `--option=` for its value.
void refuse_empty_values(int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    if (word == "--") return;
    if (word.rfind("--", 0) == 0 && word.find('=') == word.size() - 1)
      throw CLI::RequiredError("a value after " + word);
  }
}

}  // namespace

int main(int count, char** arguments) {
  using namespace fovea::cli;
  occupy_standard_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that gets too long is an error of its write
  CLI::App app{"fovea: train and run neural-encoding models of the retina and visual cortex", "fovea"};
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::help);
  Run run;
  for (const auto add :
       {add_train, add_eval, add_predict, add_gradients, add_describe, add_data, add_simulate, add_version})
    add(app, run);
  try {
    refuse_empty_values(count, arguments);
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
    return flushed(run());
  } catch (const fovea::Error& error) {
    report(error.what());
  } catch (const std::bad_alloc&) {
    report("[memory] the system has no more");
  } catch (const std::exception& error) {
    report(std::string("[system] ") + error.what());
  }
  return 1;
}
