// Nothing is lost: disks that fill up or fail, folders that vanish, values that are not finite.
#include <sys/mount.h>

#include <cmath>

#include "durability_lab.hpp"
#include "fovea/npy.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

// A run takes seconds under the sanitizer: there, every fifth of eight calls a file.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t stride = 5;
#else
constexpr std::size_t stride = 1;
#endif

/// A system call that writes, as `strace` shows it: the `ordinal`-th of its name.
struct Call {
  std::string name, line;
  int ordinal = 0;
  bool in(const std::string& part) const { return contains(line, part); }
};

bool can_trace() { return std::system("strace -o /dev/null true >/dev/null 2>&1") == 0; }

/// Runs a command under `strace`; the calls of its main thread that write below `folder` come back.
std::vector<Call> traced(const std::vector<std::string>& arguments, const std::string& folder) {
  const DurableLab& lab = DurableLab::get();
  const std::string log = lab / "trace";
  lab.done(arguments, {{"strace", "-y", "-o", log, "-e", "trace=openat,write,fsync,close,/^rename"},
                       without_leak_check});
  std::map<std::string, int> counts;
  std::vector<Call> calls;
  for (const std::string& line : lines_of(read_bytes(log))) {
    const std::string name = line.substr(0, line.find('('));
    const int ordinal = ++counts[name];
    const bool reads = name == "openat" && !contains(line, "O_CREAT") && !contains(line, "O_DIRECTORY");
    if (contains(line, folder) && !reads) calls.push_back({name, line, ordinal});
  }
  // The folder was listed before the first file; what was only read is closed, too.
  calls.erase(calls.begin(),
              std::find_if(calls.begin(), calls.end(), [](const Call& call) { return call.in("O_CREAT"); }));
  std::erase_if(calls, [&](const Call& call) {
    return call.name == "close" && !call.in(".tmp>") && !call.in(folder + ">");
  });
  return calls;
}

CommandResult injected(const std::vector<std::string>& arguments, const Call& call, const std::string& what) {
  const std::string inject = text("inject=", call.name, ':', what, ":when=", call.ordinal);
  return DurableLab::get().run(
      arguments,
      {{"strace", "-o", "/dev/null", "-e", "trace=" + call.name, "-e", inject}, without_leak_check});
}

/// The names that files get, in order.
std::vector<std::string> renamed(const std::vector<Call>& calls) {
  std::vector<std::string> names;
  for (const Call& call : calls)
    if (call.name.rfind("rename", 0) == 0) {
      const std::string line = call.line.substr(0, call.line.rfind('"'));
      names.push_back(line.substr(line.rfind('/') + 1));
    }
  return names;
}

/// One letter a call: opened, written, synced, closed, renamed; folders in capitals.
std::string letters(const std::vector<Call>& calls) {
  std::string result;
  for (const Call& call : calls) {
    const char letter = call.name == "fsync" ? 's' : call.name[0];
    const bool file = call.in(".tmp");
    result += file ? letter : static_cast<char>(std::toupper(letter));
  }
  return result;
}

/// A run of two epochs that was killed at the first write after its first epoch.
std::string run_after_first_epoch() {
  const DurableLab& lab = DurableLab::get();
  const std::vector<std::string> more{"training.max_epochs=2"};
  const std::string seen = lab.fresh("seen"), output = lab.fresh("first");
  const std::vector<Call> calls = traced(DurableLab::training(seen, more), seen);
  std::size_t at = 0;
  for (int checkpoints = 0; checkpoints < 2; ++at)
    checkpoints += calls.at(at).name.rfind("rename", 0) == 0 && calls.at(at).in("last.ckpt");
  while (!calls.at(at).in("log.txt")) ++at;
  while (calls.at(at).name != "write") ++at;
  CHECK(injected(DurableLab::training(output, more), calls[at], "signal=KILL").status == 137);
  const std::string run = DurableLab::run_in(output);
  REQUIRE(epochs_of(run) == 1);
  return run;
}

/// A small disk in memory, unmounted in the end.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, int kilobytes) : path_(path) {
    fs::create_directories(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, text("size=", kilobytes, 'k').c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  bool change(unsigned long flags, const std::string& options) const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | flags, options.c_str()) == 0;
  }
  void fill() const {
    std::ofstream file(path_ + "/filler");
    while (file << std::string(1024, 'x') << std::flush) {
    }
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

/// A run stopped in the middle, and a copy of it.
std::string half_run() {
  const DurableLab& lab = DurableLab::get();
  static const std::string half = [&] {
    const std::string output = lab.fresh("half");
    RunningCommand command(lab.path(), DurableLab::training(output));
    REQUIRE(wait_until(command, [&] { return epochs_of(DurableLab::run_in(output)) >= 1; }));
    command.signal(SIGTERM);
    REQUIRE(command.wait().status == 143);
    return DurableLab::run_in(output);
  }();
  const std::string copy = lab.fresh("half");
  copy_folder(half, copy);
  return copy;
}

bool all_finite(const std::string& path) {
  for (const auto& [name, tensor] : read_safetensors(path, cpu()).tensors)
    if (tensor.dtype() != DType::i64)
      for (const float value : tensor.to(DType::f32).to_vector<float>())
        if (!std::isfinite(value)) return false;
  return true;
}

}  // namespace

TEST_CASE("killed at every system call of a save, and with every one of them failing") {
  if (!can_trace()) {
    MESSAGE("1 skipped: strace is not here or must not trace");
    return;
  }
  const DurableLab& lab = DurableLab::get();
  // In memory where there is such a folder: a hundred runs that synchronise often.
  const TemporaryFolder fast(fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path());
  const std::string first = run_after_first_epoch(), seen = fast / "seen", run = fast / "run";
  copy_folder(first, seen);
  const std::vector<Call> calls = traced({"train", "--resume", seen}, seen);
  check_same_run(lab.two_epochs(), seen);
  CHECK(renamed(calls) == std::vector<std::string>{"log.txt", "model.safetensors", "metrics.csv",
                                                   "last.ckpt.safetensors", "log.txt", "test.csv",
                                                   "model.safetensors", "log.txt"});
  // A temporary name, synced, renamed, and the name synced.
  CAPTURE(letters(calls));
  CHECK(std::regex_match(letters(calls), std::regex("(ow+scrOSC)+")));
  int kills = 0, failures = 0;
  const std::vector<std::string> arguments{"train", "--resume", run};
  for (std::size_t at = 0; at < calls.size(); at += stride) {
    const Call& call = calls[at];
    CAPTURE(call.line);
    if (call.name != "close" && !call.in("O_DIRECTORY")) {
      copy_folder(first, run);
      CHECK(injected(arguments, call, "signal=KILL").status == 137);
      check_whole_files(run);
      lab.resume_and_compare(lab.two_epochs(), run);
      fs::remove_all(run);
      ++kills;
    }
    if (call.name == "close" && !call.in(".tmp")) continue;  // of a folder: nothing depends on it
    copy_folder(first, run);
    const bool full = call.name == "write" || call.name == "openat";
    const CommandResult failed = injected(arguments, call, full ? "error=ENOSPC" : "error=EIO");
    check_failed(failed, run, full ? "No space left on device" : "Input/output error");
    CHECK_FALSE(has_temporary(run));
    check_whole_files(run);
    lab.resume_and_compare(lab.two_epochs(), run);
    fs::remove_all(run);
    ++failures;
  }
  CHECK(kills > 8 * 5 / static_cast<int>(stride) - 2);
  CHECK(failures > 8 * 7 / static_cast<int>(stride) - 2);
}

TEST_CASE("files that must not get longer are errors, not deaths, and the old ones stay whole") {
  const DurableLab& lab = DurableLab::get();
  const auto size = [&](const char* name) { return fs::file_size(half_run() + "/" + name); };
  for (const std::uint64_t limit :
       {size("log.txt") + 20, size("model.safetensors") - 100, size("last.ckpt.safetensors") - 1}) {
    CAPTURE(limit);
    const std::string run = half_run();
    const auto before = contents(run);
    const CommandResult failed = lab.run({"train", "--resume", run}, {{}, limit_file_size(limit)});
    check_failed(failed, run, "File too large");
    CHECK_FALSE(has_temporary(run));
    CHECK(contents(run).at("last.ckpt.safetensors") == before.at("last.ckpt.safetensors"));
    check_whole_files(run);
    lab.resume_and_compare(lab.whole(), run);
  }
  // A run that cannot even begin leaves nothing.
  const std::string output = lab.fresh("limited");
  check_failed(lab.run(DurableLab::training(output), {{}, limit_file_size(1000)}), output, "File too large");
  CHECK(DurableLab::run_in(output) == "");
}

TEST_CASE("a disk that fills up while training") {
  const DurableLab& lab = DurableLab::get();
  int kept = 0, nothing = 0, enough = 0;
  for (int kilobytes = 8; kilobytes <= 136; kilobytes += 16) {
    CAPTURE(kilobytes);
    const std::string path = lab.fresh("disk");
    const SmallDisk disk(path, kilobytes);
    if (!disk.mounted()) {
      MESSAGE("1 skipped: no small disk without the right to mount one");
      return;
    }
    const CommandResult result = lab.run(DurableLab::training(path + "/runs", {"training.max_epochs=2"}));
    const std::string run = DurableLab::run_in(path + "/runs");
    if (result.status != 0) check_failed(result, path, "No space left on device");
    (result.status == 0 ? enough : run.empty() ? nothing : kept) += 1;
    if (run.empty()) continue;
    CHECK_FALSE(has_temporary(run));
    check_whole_files(run);
    CHECK(disk.change(0, "size=1m"));
    lab.resume_and_compare(lab.two_epochs(), run);
  }
  CHECK(nothing > 0);
  CHECK(kept > 1);
  CHECK(enough > 0);
}

TEST_CASE("a disk that is made read-only while training") {
  const DurableLab& lab = DurableLab::get();
  const std::string path = lab.fresh("disk");
  const SmallDisk disk(path, 1024);
  if (!disk.mounted()) {
    MESSAGE("1 skipped: no small disk without the right to mount one");
    return;
  }
  RunningCommand command(lab.path(), DurableLab::training(path));
  // It is busy while a file is being written.
  REQUIRE(wait_until(command, [&] {
    return epochs_of(DurableLab::run_in(path)) >= 1 && disk.change(MS_RDONLY, "size=1m");
  }));
  const CommandResult result = command.wait();
  check_failed(result, path, "Read-only file system");
  const std::string run = DurableLab::run_in(path);
  check_whole_files(run);
  CHECK(disk.change(0, "size=1m"));
  // Between the end of a file and its rename nothing is open: the disk can change then, and the file cannot
  // be removed any more. Resuming does that.
  if (result.err.find("cannot be replaced") == std::string::npos) CHECK_FALSE(has_temporary(run));
  lab.resume_and_compare(lab.whole(), run);
  CHECK_FALSE(has_temporary(run));
}

TEST_CASE("a run folder that vanishes or becomes a file while training") {
  const DurableLab& lab = DurableLab::get();
  for (const bool file : {false, true}) {
    CAPTURE(file);
    const std::string output = lab.fresh("lost"), moved = lab.fresh("moved");
    RunningCommand command(lab.path(), DurableLab::training(output));
    REQUIRE(wait_until(command, [&] { return epochs_of(DurableLab::run_in(output)) >= 1; }));
    const std::string run = DurableLab::run_in(output);
    command.halt();
    fs::rename(run, moved);
    if (file) write_bytes(run, "");
    command.signal(SIGCONT);
    check_failed(command.wait(), run, file ? "Not a directory" : "No such file or directory");
    check_whole_files(moved);
    lab.resume_and_compare(lab.whole(), moved);
  }
}

TEST_CASE("an output folder that cannot be made is an error before the first step") {
  const DurableLab& lab = DurableLab::get();
  const auto before = listing(lab.path());
  check_failed(lab.run(DurableLab::training("durable.yaml/runs")), "durable.yaml/runs", "Not a directory");
  check_failed(lab.run(DurableLab::training("/proc/fovea")), "/proc/fovea", "No such file or directory");
  CHECK(listing(lab.path()) == before);
}

TEST_CASE("a run that diverges says where, keeps its last good files, and fails the same way again") {
  const DurableLab& lab = DurableLab::get();
  const std::string output = lab.fresh("diverging");
  // Decay that multiplies every parameter by -3: the statistics overflow before the loss does.
  const CommandResult result =
      lab.run(DurableLab::training(output, {"training.optimizer.weight_decay=400", "training.scheduler=null",
                                            "training.early_stopping=null"}));
  const std::regex place(
      R"(epoch (\d+), step \d+, session (simulated_retina|second): .* first in \w+\.\w+.*)");
  const std::string message = last_line(result.err), run = DurableLab::run_in(output);
  check_failed(result, "[train] epoch", "not finite");
  std::smatch match;
  REQUIRE(std::regex_search(message, match, place));
  CHECK(std::stoul(match[1]) == epochs_of(run));
  REQUIRE(epochs_of(run) >= 1);
  check_whole_files(run);
  CHECK(all_finite(run + "/last.ckpt.safetensors"));
  CHECK(all_finite(run + "/model.safetensors"));
  CHECK_FALSE(fs::exists(run + "/test.csv"));
  auto before = contents(run);
  const CommandResult again = lab.run({"train", "--resume", run});
  CHECK(again.status == 1);
  CHECK(last_line(again.err) == message);
  auto after = contents(run);
  before.erase("log.txt");
  after.erase("log.txt");
  CHECK((before == after));
}

TEST_CASE("every command that writes fails on a full disk and leaves the old file or none") {
  const DurableLab& lab = DurableLab::get();
  const std::string model = lab.whole() + "/model.safetensors";
  write_npy(lab / "x.npy", frames(read_npy(lab / "retina/stimuli/wn_test.npy", DType::f32, cpu()), 0, 60));
  write_npy(lab / "r.npy", Tensor::zeros({60, 6}, DType::f32, cpu()));
  struct Row {
    std::vector<std::string> arguments;  // the last one is where it writes, in the output folder
    bool replaces;
  };
  const std::vector<std::string> session{"--session", "simulated_retina", "--out"};
  std::vector<Row> rows{{{"predict", model, "--stimulus", "x.npy"}, true},
                        {{"gradients", model, "--stimulus", "x.npy", "--responses", "r.npy"}, true},
                        {{"eval", model, "--data", "durable.yaml", "--csv"}, true},
                        {{"data", "durable.yaml", "--dump"}, false},
                        {{"simulate", "--frames", "1000", "--size", "16", "16", "--neurons", "2"}, false},
                        {{"simulate", "--format", "sensorium", "--frames", "10", "--neurons", "2"}, false}};
  for (std::size_t i = 0; i < 2; ++i)
    rows[i].arguments.insert(rows[i].arguments.end(), session.begin(), session.end());
  const auto check_all = [&](const std::string& folder, const Start& start, const std::string& reason) {
    for (const Row& row : rows) {
      CAPTURE(row.arguments[0]);
      std::vector<std::string> arguments = row.arguments;
      arguments.push_back(folder + "/" + row.arguments[0]);
      const auto before = contents(folder);
      const auto names = listing(folder);
      check_failed(lab.run(arguments, start), folder, reason);
      CHECK((contents(folder) == before));
      // Of a dump the folder stays.
      if (row.arguments[0] == "data") fs::remove(arguments.back());
      CHECK(listing(folder) == names);
    }
  };
  const auto prepare = [&](const std::string& folder) {
    fs::create_directories(folder);
    for (const Row& row : rows)
      if (row.replaces) write_bytes(folder + "/" + row.arguments[0], "old");
  };
  const std::string limited = lab.fresh("limited");
  prepare(limited);
  check_all(limited, {{}, limit_file_size(400)}, "File too large");
  const std::string path = lab.fresh("disk");
  const SmallDisk disk(path, 64);
  if (!disk.mounted()) {
    MESSAGE("1 skipped: no small disk without the right to mount one");
    return;
  }
  prepare(path);
  disk.fill();
  check_all(path, {}, "No space left on device");
}
