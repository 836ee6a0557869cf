// Runs the built program (environment variable FOVEA_EXE) as a user would.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "data_files.hpp"

namespace fovea::test {

struct CommandResult {
  int status = -1;  ///< exit status, 128 + signal for one that ended by a signal
  std::string out, err;
  double seconds = 0;          ///< from its start to its end
  std::size_t peak_bytes = 0;  ///< resident at its peak, the larger of its own and its children's
};

inline std::string program() {
  const char* path = std::getenv("FOVEA_EXE");
  if (!path || !*path) throw Error("test", "the environment variable FOVEA_EXE is not set");
  return path;
}

/// How the program is started, beside its arguments.
struct Start {
  std::vector<std::string> prefix = {};       ///< a program that runs it, and that one's options
  std::function<void()> before_exec = [] {};  ///< in the new process, after its streams are redirected
};

/// The program, started in a folder; stdout and stderr go to files elsewhere.
class RunningCommand {
 public:
  RunningCommand(const std::string& folder, const std::vector<std::string>& arguments,
                 const Start& start = {}) {
    std::vector<std::string> words = start.prefix;
    words.push_back(program());
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    const std::string out = output_ / "out", err = output_ / "err";
    pid_ = ::fork();
    if (pid_ < 0) throw Error("test", "fork failed");
    if (pid_ > 0) return;
    ::alarm(600);  // kept by the program: nothing here hangs for ever
    // Whoever runs the tests in the background or under nohup has some of these ignored.
    for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) ::signal(signal, SIG_DFL);
    const int o = ::open(out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600),
              e = ::open(err.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (o >= 0 && e >= 0 && ::dup2(o, 1) == 1 && ::dup2(e, 2) == 2 && ::chdir(folder.c_str()) == 0) {
      start.before_exec();
      ::execvp(pointers[0], pointers.data());
    }
    ::_exit(99);
  }
  ~RunningCommand() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  pid_t pid() const { return pid_; }
  bool running() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }
  /// Stops the process where it is and waits until it stands; SIGCONT lets it go on.
  void halt() const {
    siginfo_t info{};
    signal(SIGSTOP);
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT);
  }
  CommandResult wait() {
    int status = 0;
    rusage usage{};
    ::wait4(pid_, &status, 0, &usage);
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_bytes(output_ / "out"),
            read_bytes(output_ / "err"),
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(),
            static_cast<std::size_t>(usage.ru_maxrss) * 1024};
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  TemporaryFolder output_;
  pid_t pid_ = -1;
};

inline CommandResult run_command(const std::string& folder, const std::vector<std::string>& arguments,
                                 const Start& start = {}) {
  return RunningCommand(folder, arguments, start).wait();
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

inline std::string last_line(const std::string& text) {
  const auto lines = lines_of(text);
  return lines.empty() ? "" : lines.back();
}

inline std::vector<std::string> split(const std::string& line, char separator = ',') {
  std::vector<std::string> cells;
  std::string cell;
  for (const char c : line)
    if (c == separator) {
      cells.push_back(cell);
      cell.clear();
    } else {
      cell += c;
    }
  cells.push_back(cell);
  return cells;
}

/// Everything below a folder.
inline std::set<std::string> listing(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) names.insert(entry.path());
  return names;
}

}  // namespace fovea::test
