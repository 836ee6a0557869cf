// Runs that are killed, starved and resumed, and the uninterrupted run that they have to equal.
#pragma once
#include <sys/resource.h>

#include <chrono>
#include <thread>

#include "cli_lab.hpp"
#include "fovea/safetensors.hpp"
#include "models/registry.hpp"
#include "training/checkpoint.hpp"
#include "training/run_config.hpp"
#include "training/yaml.hpp"

namespace fovea::test {

/// Two sessions, dropout, two batches a step, a scheduler and early stopping that both act.
inline constexpr auto durable_config = R"(experiment: durable
seed: 6
output: runs
threads: 1
model:
  class: CoreReadout
  in_shape: [1, 30, 16, 16]
  hidden_channels: [12]
  temporal_kernel_sizes: [6]
  spatial_kernel_sizes: [5]
  core_gamma_temporal: 1.0
  dropout_rate: 0.2
data:
  path: retina
  test_names: [wn_test]
  batch_size: 4
  train_chunk_size: 40
  clip_length: 60
  num_val_clips: 2
training:
  max_epochs: 12
  accumulate_grad_batches: 2
  scheduler: {patience: 1}
  early_stopping: {patience: 4}
)";

inline bool is_temporary(const std::string& path) { return fs::path(path).extension() == ".tmp"; }

inline bool has_temporary(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (is_temporary(entry.path())) return true;
  return false;
}

/// Epochs in metrics.csv.
inline std::size_t epochs_of(const std::string& run) {
  const std::size_t lines = lines_of(read_bytes(run + "/metrics.csv")).size();
  return lines ? lines - 1 : 0;
}

/// Everything in a folder by its name; temporary files are left out.
inline std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && !is_temporary(entry.path()))
      files[fs::relative(entry.path(), folder)] = read_bytes(entry.path());
  return files;
}

inline void copy_folder(const std::string& from, const std::string& to) {
  fs::create_directories(fs::path(to).parent_path());
  fs::copy(from, to, fs::copy_options::recursive);
}

/// All `seconds` of a checkpoint's state as 0.
inline void forget_seconds(Json& value) {
  if (value.is_object() && value.contains("seconds")) value["seconds"] = 0;
  if (value.is_structured())
    for (Json& item : value) forget_seconds(item);
}

inline void check_same_checkpoint(const std::string& expected, const std::string& actual) {
  const Safetensors a = read_safetensors(expected, cpu()), b = read_safetensors(actual, cpu());
  Json state_a = Json::parse(a.metadata.at("state")), state_b = Json::parse(b.metadata.at("state"));
  forget_seconds(state_a);
  forget_seconds(state_b);
  CHECK(state_a.dump() == state_b.dump());
  CHECK(a.metadata.at("config") == b.metadata.at("config"));
  REQUIRE(a.tensors.size() > 10);
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    const auto& [name, left] = a.tensors[i];
    const Tensor& right = b.tensors[i].second;
    const auto& shown_name = name;
    CAPTURE(shown_name);
    CHECK(name == b.tensors[i].first);
    REQUIRE(left.bytes() == right.bytes());
    CHECK(std::memcmp(left.raw(), right.raw(), left.bytes()) == 0);
  }
}

/// Lines without the last cell of a table, or without the lines that name the folder of the output.
inline std::string comparable(const std::string& text, bool table) {
  std::string kept;
  for (const std::string& line : lines_of(text))
    if (table || line.rfind("output:", 0) != 0)
      kept += (table ? line.substr(0, line.rfind(',')) : line) + '\n';
  return kept;
}

/// Epoch lines of a log, without their seconds.
inline std::vector<std::string> log_epochs(const std::string& run) {
  std::vector<std::string> epochs;
  for (const std::string& line : lines_of(read_bytes(run + "/log.txt")))
    if (line.rfind("epoch ", 0) == 0)
      epochs.push_back(std::regex_replace(line, std::regex(R"(\d+\.\d s)"), ""));
  return epochs;
}

/// Every file but the seconds and the other lines of the log.
inline void check_same_run(const std::string& expected, const std::string& actual) {
  CAPTURE(actual);
  const auto file = [](const std::string& run, const char* name) {
    const std::string bytes = read_bytes(run + "/" + name);
    REQUIRE_FALSE(bytes.empty());
    return bytes;
  };
  CHECK(comparable(file(expected, "config.yaml"), false) == comparable(file(actual, "config.yaml"), false));
  CHECK(comparable(file(expected, "metrics.csv"), true) == comparable(file(actual, "metrics.csv"), true));
  CHECK((file(expected, "model.safetensors") == file(actual, "model.safetensors")));
  CHECK(file(expected, "test.csv") == file(actual, "test.csv"));
  check_same_checkpoint(expected + "/last.ckpt.safetensors", actual + "/last.ckpt.safetensors");
  CHECK(log_epochs(expected) == log_epochs(actual));
  CHECK(listing(actual).size() == 6);
}

/// Every file that is there can be read, whatever happened: it is a whole one.
inline void check_whole_files(const std::string& run) {
  CAPTURE(run);
  for (const auto& file : contents(run)) {
    const std::string &name = file.first, &bytes = file.second;
    CAPTURE(name);
    const std::string path = run + "/" + name;
    CHECK_FALSE(bytes.empty());
    CHECK_NOTHROW([&] {
      if (name == "config.yaml") (void)read_run_config(path, {});
      if (name == "model.safetensors") (void)load_model(path, {cpu(), DType::f32});
      if (name == "last.ckpt.safetensors")
        (void)make_model(read_checkpoint(path, cpu()), {cpu(), DType::f32});
    }());
    if (fs::path(name).extension() == ".safetensors") continue;
    CHECK(bytes.back() == '\n');
    if (fs::path(name).extension() == ".csv")
      for (const std::string& line : lines_of(bytes))
        CHECK(split(line).size() == split(lines_of(bytes)[0]).size());
  }
}

/// exit 1, `fovea: [path] rule: reason`, whole files and no temporary.
inline void check_failed(const CommandResult& result, const std::string& path, const std::string& reason) {
  CAPTURE(result.err);
  CHECK(result.status == 1);
  CHECK(last_line(result.err).rfind("fovea: [", 0) == 0);
  CHECK(contains(last_line(result.err), path));
  CHECK(contains(last_line(result.err), reason));
}

/// Leaks cannot be looked for in a process that is traced.
inline void without_leak_check() {
  const char* given = std::getenv("ASAN_OPTIONS");
  ::setenv("ASAN_OPTIONS", ((given ? std::string(given) + ":" : "") + "detect_leaks=0").c_str(), 1);
}

inline std::function<void()> limit_file_size(std::uint64_t bytes) {
  return [bytes] {
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
}

/// The data, the configuration and the uninterrupted run, made once.
class DurableLab {
 public:
  static const DurableLab& get() {
    static const DurableLab lab;
    return lab;
  }
  const std::string& path() const { return folder_.path(); }
  std::string operator/(const std::string& name) const { return folder_ / name; }
  /// The uninterrupted run, and one of two epochs.
  const std::string& whole() const { return whole_; }
  const std::string& two_epochs() const { return two_epochs_; }
  double seconds() const { return seconds_; }

  /// A folder for the output of one run.
  std::string fresh(const std::string& name) const {
    static int count = 0;
    return folder_ / text(name, '-', count++);
  }
  static std::vector<std::string> training(const std::string& output,
                                           const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"train", "durable.yaml", "output=" + output};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  CommandResult run(const std::vector<std::string>& arguments, const Start& start = {}) const {
    return run_command(path(), arguments, start);
  }
  CommandResult done(const std::vector<std::string>& arguments, const Start& start = {}) const {
    const CommandResult result = run(arguments, start);
    INFO(result.err);
    CHECK(result.status == 0);
    return result;
  }
  CommandResult resume(const std::string& run) const { return done({"train", "--resume", run}); }
  void resume_and_compare(const std::string& expected, const std::string& run) const {
    resume(run);
    check_same_run(expected, run);
  }
  /// The run folder below an output, "" where there is none yet.
  static std::string run_in(const std::string& output) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(output + "/durable", ignored)) return entry.path();
    return "";
  }

 private:
  DurableLab() {
    write_bytes(folder_ / "durable.yaml", durable_config);
    for (const auto& [name, neurons] : {std::pair{"retina", "6"}, {"other", "4"}})
      done({"simulate", name, "--neurons", neurons, "--frames", "1200", "--size", "16", "16", "--seed", "3"});
    fs::rename(folder_ / "other/simulated_retina.h5", folder_ / "retina/second.h5");
    const auto start = std::chrono::steady_clock::now();
    done(training(folder_ / "whole"));
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    whole_ = run_in(folder_ / "whole");
    done(training(folder_ / "two", {"training.max_epochs=2"}));
    two_epochs_ = run_in(folder_ / "two");
  }

  TemporaryFolder folder_;
  std::string whole_, two_epochs_;
  double seconds_ = 0;
};

/// Waits until `reached` is true or the command has ended; false for the latter.
template <class Reached>
bool wait_until(const RunningCommand& command, const Reached& reached) {
  while (command.running()) {
    if (reached()) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return false;
}

}  // namespace fovea::test
