// Nothing is lost: runs that are killed or interrupted at any moment go on to the same bits.
#include "durability_lab.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

using Seconds = std::chrono::duration<double>;

/// Uniform in 0 .. 1, the same in every run of the test.
class Dice {
 public:
  double roll() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 40) / static_cast<double>(1 << 24);
  }

 private:
  std::uint64_t state_ = 20250101;
};

enum class Phase { first_epoch, later_epoch, save, test };
constexpr const char* phase_names[] = {"in the first epoch", "in a later epoch", "during a save",
                                       "during the final test"};

/// Where a killed or running run stands; nothing for one that has not begun or is over.
std::optional<Phase> phase_of(const std::string& run, std::size_t all_epochs) {
  if (run.empty() || !fs::exists(run + "/config.yaml")) return std::nullopt;
  const std::size_t epochs = epochs_of(run);
  if (contains(read_bytes(run + "/log.txt"), "test correlation")) return std::nullopt;
  if (epochs == all_epochs && contains(read_bytes(run + "/log.txt"), "early stopping")) return Phase::test;
  if (has_temporary(run)) return Phase::save;
  return epochs == 0 ? Phase::first_epoch : Phase::later_epoch;
}

/// Starts a run, or one that goes on where `run` stands, and signals it at a random moment of a phase; false
/// where it was over before.
bool strike(const RunningCommand& command, const std::string& output, Phase phase, Dice& dice, int signal) {
  const DurableLab& lab = DurableLab::get();
  const std::size_t all = epochs_of(lab.whole());
  const double epoch_seconds = lab.seconds() / static_cast<double>(all + 2);
  const auto target = static_cast<std::size_t>(1 + dice.roll() * static_cast<double>(all - 1));
  const double delay = epoch_seconds * dice.roll() * (phase == Phase::test ? 0.5 : 1);
  const bool reached = wait_until(command, [&] {
    const std::string run = DurableLab::run_in(output);
    const std::optional<Phase> now = phase_of(run, all);
    if (phase == Phase::save) return now && has_temporary(run) && epochs_of(run) >= target / 2;
    return now &&
           (phase == Phase::test ? now == phase : phase == Phase::first_epoch || epochs_of(run) >= target);
  });
  if (phase != Phase::save) std::this_thread::sleep_for(Seconds(delay));
  command.signal(signal);
  return reached;
}

/// A run that was ended by `signal` in this phase. Moments before its beginning, after its end or in another
/// phase do not count; others are tried.
std::string struck_run(Phase phase, int signal, Dice& dice, CommandResult& result) {
  const DurableLab& lab = DurableLab::get();
  for (int attempt = 0; attempt < 40; ++attempt) {
    const std::string output = lab.fresh("struck");
    RunningCommand command(lab.path(), DurableLab::training(output));
    const bool reached = strike(command, output, phase, dice, signal);
    result = command.wait();
    const std::string run = DurableLab::run_in(output);
    if (reached && result.status == 128 + signal && phase_of(run, epochs_of(lab.whole())) == phase)
      return run;
    MESSAGE(text("a moment ", phase_names[static_cast<int>(phase)], " was missed: status ", result.status));
  }
  FAIL("no moment ", phase_names[static_cast<int>(phase)], " was met");
  return "";
}

/// Whether a process has become the program and has its own handler of a signal.
bool catches(pid_t process, int signal) {
  std::error_code failure;
  if (!fs::equivalent(text("/proc/", process, "/exe"), program(), failure)) return false;
  for (const std::string& line : lines_of(read_bytes(text("/proc/", process, "/status"))))
    if (line.rfind("SigCgt:", 0) == 0) return std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1;
  return false;
}

}  // namespace

TEST_CASE("the uninterrupted run has a scheduler and early stopping that act, and tests") {
  const DurableLab& lab = DurableLab::get();
  const std::string log = read_bytes(lab.whole() + "/log.txt");
  CHECK(contains(log, "early stopping after epoch"));
  CHECK(contains(log, "learning rate 0.01 -> "));
  CHECK(epochs_of(lab.whole()) >= 5);
  CHECK(epochs_of(lab.whole()) < 12);
  CHECK(log_epochs(lab.whole()).size() == epochs_of(lab.whole()));
  CHECK(contains(read_bytes(lab.whole() + "/model.safetensors"), "single_trial_correlation"));
  check_whole_files(lab.whole());
}

TEST_CASE("runs killed at ten random moments go on to the same bits") {
  const DurableLab& lab = DurableLab::get();
  Dice dice;
  int kills = 0;
  for (const Phase phase :
       {Phase::first_epoch, Phase::later_epoch, Phase::save, Phase::test, Phase::later_epoch, Phase::save,
        Phase::first_epoch, Phase::later_epoch, Phase::save, Phase::later_epoch}) {
    CAPTURE(phase_names[static_cast<int>(phase)]);
    CommandResult result;
    const std::string run = struck_run(phase, SIGKILL, dice, result);
    ++kills;
    check_whole_files(run);
    // Every other run is killed once more on its way.
    if (kills % 2 == 0) {
      RunningCommand command(lab.path(), {"train", "--resume", run});
      std::this_thread::sleep_for(Seconds(lab.seconds() * dice.roll()));
      command.signal(SIGKILL);
      command.wait();
      check_whole_files(run);
    }
    lab.resume_and_compare(lab.whole(), run);
  }
  CHECK(kills == 10);
}

TEST_CASE("the first signal finishes the step and saves, the run goes on to the same bits") {
  const DurableLab& lab = DurableLab::get();
  Dice dice;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    CAPTURE(number);
    for (const Phase phase : {Phase::first_epoch, Phase::later_epoch}) {
      CommandResult result;
      const std::string run = struck_run(phase, number, dice, result);
      CHECK(contains(last_line(result.err), "go on with: fovea train --resume " + run));
      CHECK(contains(last_line(read_bytes(run + "/log.txt")), "interrupted in epoch"));
      CHECK(result.out == "");
      CHECK_FALSE(has_temporary(run));
      check_whole_files(run);
      lab.resume_and_compare(lab.whole(), run);
    }
  }
}

TEST_CASE("a signal during the final test stops at once, and the test is made again") {
  const DurableLab& lab = DurableLab::get();
  Dice dice;
  CommandResult result;
  const std::string run = struck_run(Phase::test, SIGTERM, dice, result);
  CHECK(result.out == "");
  check_whole_files(run);
  lab.resume_and_compare(lab.whole(), run);
}

TEST_CASE("a second signal stops at once") {
  const DurableLab& lab = DurableLab::get();
  const std::string output = lab.fresh("twice");
  RunningCommand command(lab.path(), DurableLab::training(output));
  REQUIRE(wait_until(command, [&] { return epochs_of(DurableLab::run_in(output)) >= 1; }));
  // Both wait while the process stands and come together, before it does anything else.
  command.halt();
  command.signal(SIGINT);
  command.signal(SIGTERM);
  command.signal(SIGCONT);
  const CommandResult result = command.wait();
  CAPTURE(result.err);
  CHECK((result.status == 130 || result.status == 143));
  CHECK_FALSE(contains(result.err, "--resume"));
  const std::string run = DurableLab::run_in(output);
  CHECK_FALSE(contains(read_bytes(run + "/log.txt"), "interrupted"));
  check_whole_files(run);
  lab.resume_and_compare(lab.whole(), run);
}

TEST_CASE("a signal while the data are loaded stops at once and leaves nothing") {
  const DurableLab& lab = DurableLab::get();
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    CAPTURE(number);
    bool met = false;
    for (int attempt = 0; attempt < 40 && !met; ++attempt) {
      const std::string output = lab.fresh("early");
      RunningCommand command(lab.path(), DurableLab::training(output));
      wait_until(command, [&] { return catches(command.pid(), number); });
      command.signal(number);
      const CommandResult result = command.wait();
      met = !fs::exists(output);  // else the training had begun
      if (met) CHECK(result.status == 128 + number);
      if (met) CHECK(result.err == "");
    }
    CHECK(met);
  }
}

TEST_CASE("a terminal that goes away ends no run that nohup protects, and spoils no file") {
  const DurableLab& lab = DurableLab::get();
  const auto trained = [&](const std::function<void()>& before_exec) {
    const std::string output = lab.fresh("streams");
    const CommandResult result = lab.run(DurableLab::training(output), {{}, before_exec});
    check_same_run(lab.whole(), DurableLab::run_in(output));
    return result;
  };
  const auto broken = [](int descriptor) {
    int ends[2];
    if (::pipe(ends) == 0) ::close(ends[0]), ::dup2(ends[1], descriptor), ::close(ends[1]);
  };
  SUBCASE("hangup under nohup") {
    const std::string output = lab.fresh("nohup");
    RunningCommand command(lab.path(), DurableLab::training(output), {{}, [] { ::signal(SIGHUP, SIG_IGN); }});
    REQUIRE(wait_until(command, [&] { return epochs_of(DurableLab::run_in(output)) >= 1; }));
    command.signal(SIGHUP);
    CHECK(command.wait().status == 0);
    check_same_run(lab.whole(), DurableLab::run_in(output));
  }
  SUBCASE("progress that nobody reads") {
    CHECK(trained([&] { broken(2); }).status == 0);
  }
  SUBCASE("progress on a full disk") {
    CHECK(trained([] { ::dup2(::open("/dev/full", O_WRONLY), 2); }).status == 0);
  }
  SUBCASE("a closed stderr, whose number the next file gets") {
    CHECK(trained([] { ::close(2); }).status == 0);
  }
  // Results that cannot be shown are a failure, after everything is saved.
  SUBCASE("results that nobody reads") {
    check_failed(trained([&] { broken(1); }), "[stdout] cannot be written", "Broken pipe");
  }
  SUBCASE("results on a full disk") {
    check_failed(trained([] { ::dup2(::open("/dev/full", O_WRONLY), 1); }), "[stdout] cannot be written",
                 "No space left on device");
  }
  SUBCASE("all streams closed") {
    CHECK(trained([] { ::close(0), ::close(1), ::close(2); }).status == 1);
  }
}
