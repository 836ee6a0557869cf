// A trained model of a small simulated retina, made once, for the tests of the commands.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <regex>

#include "check.hpp"
#include "cli_run.hpp"
#include "fovea/safetensors.hpp"

namespace fovea::test {

namespace fs = std::filesystem;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline Device cpu() { return cpu_device(1); }

inline constexpr auto config_text = R"(experiment: tiny
seed: 7
output: runs
model:
  class: CoreReadout
  in_shape: [1, 30, 16, 16]
  hidden_channels: [3]
  temporal_kernel_sizes: [6]
  spatial_kernel_sizes: [5]
  core_gamma_temporal: 1.0
  dropout_rate: 0.1
data:
  path: retina
  test_names: [wn_test]
  batch_size: 8
  train_chunk_size: 30
  clip_length: 60
  num_val_clips: 2
training:
  max_epochs: 3
)";

/// A folder that commands run in.
class CommandFolder {
 public:
  CommandResult run(const std::vector<std::string>& arguments) const {
    return run_command(folder_.path(), arguments);
  }
  /// Runs and expects success.
  CommandResult done(const std::vector<std::string>& arguments) const {
    const CommandResult result = run(arguments);
    INFO(result.err);
    CHECK(result.status == 0);
    return result;
  }
  /// exit 1, `fovea: [where] rule: values` on stderr, nothing on stdout, no file made.
  void refused(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) const {
    const auto before = listing(path());
    const CommandResult result = run(arguments);
    const std::string command = std::accumulate(arguments.begin(), arguments.end(), std::string("fovea"),
                                                [](const auto& a, const auto& b) { return a + ' ' + b; });
    CAPTURE(command);
    CAPTURE(result.err);
    CHECK(result.status == 1);
    CHECK(result.out == "");
    CHECK(std::regex_match(last_line(result.err), std::regex(R"(fovea: \[[^\]]+\] .+)")));
    for (const std::string& part : parts) CHECK(contains(result.err, part));
    CHECK(listing(path()) == before);
  }
  std::string operator/(const std::string& name) const { return folder_ / name; }
  const std::string& path() const { return folder_.path(); }

  /// The newest run folder of an experiment.
  std::string newest_run(const std::string& experiment) const {
    std::string newest;
    for (const auto& entry : fs::directory_iterator(folder_ / "runs/" + experiment))
      newest = std::max(newest, entry.path().string());
    return newest;
  }

 private:
  TemporaryFolder folder_;
};

/// A folder with a simulated retina, its configuration and a trained model, made once.
class Lab : public CommandFolder {
 public:
  static const Lab& get() {
    static const Lab lab;
    return lab;
  }
  const std::string& model() const { return model_; }
  const std::string& run_folder() const { return run_folder_; }
  const CommandResult& training() const { return training_; }

 private:
  Lab() {
    write_bytes(*this / "tiny.yaml", config_text);
    done({"simulate", "retina", "--neurons", "6", "--frames", "1200", "--size", "16", "16", "--seed", "3"});
    training_ = done({"train", "tiny.yaml", "--threads", "1"});
    run_folder_ = newest_run("tiny");
    model_ = run_folder_ + "/model.safetensors";
  }

  CommandResult training_;
  std::string run_folder_, model_;
};

inline void check_refused(const std::vector<std::string>& arguments, const std::string& part) {
  Lab::get().refused(arguments, {part});
}

/// Frames [begin, end) of a movie (1,T,H,W).
inline Tensor frames(const Tensor& movie, std::int64_t begin, std::int64_t end) {
  const Shape& s = movie.shape();
  return movie.reshape({s[1], s[2], s[3]}).rows(begin, end).reshape({1, end - begin, s[2], s[3]});
}

/// metrics.csv without its last column, the seconds.
inline std::vector<std::string> metrics_without_seconds(const std::string& run_folder) {
  std::vector<std::string> lines = lines_of(read_bytes(run_folder + "/metrics.csv"));
  for (std::string& line : lines) line = line.substr(0, line.rfind(','));
  return lines;
}

inline void check_same_results(const std::string& expected, const std::string& actual) {
  CHECK(metrics_without_seconds(expected) == metrics_without_seconds(actual));
  for (const char* name : {"/model.safetensors", "/test.csv"}) {
    CAPTURE(name);
    CHECK_FALSE(read_bytes(expected + name).empty());
    CHECK(read_bytes(expected + name) == read_bytes(actual + name));
  }
}

inline double pearson(const std::vector<double>& a, const std::vector<double>& b) {
  const auto mean = [](const std::vector<double>& v) {
    return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
  };
  const double ma = mean(a), mb = mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) * (a[i] - ma);
    bb += (b[i] - mb) * (b[i] - mb);
  }
  return ab / std::sqrt(aa * bb);
}

/// Compares what `gradients` wrote in double precision with a golden file; how many tensors. A gradient that
/// is zero up to rounding, as of a bias below a batch norm, is compared on the scale of the largest one.
inline int compared_gradients(const Safetensors& golden, const Safetensors& result) {
  const auto norm = [](const Tensor& tensor) {
    double squares = 0;
    for (const double value : values(tensor)) squares += value * value;
    return std::sqrt(squares);
  };
  double largest = 0;
  for (const auto& [key, tensor] : golden.tensors)
    if (key.rfind("grad.", 0) == 0) largest = std::max(largest, norm(tensor));
  int compared = 0;
  for (const auto& [key, expected] : golden.tensors) {
    const bool wanted = key == "output" || key == "loss" || key == "total" || contains(key, "regularizer") ||
                        key.rfind("grad.", 0) == 0 || key.rfind("buffer.", 0) == 0;
    if (!wanted) continue;
    const auto& shown_key = key;
    CAPTURE(shown_key);
    const Tensor* actual = result.find(key);
    REQUIRE(actual);
    if (key.rfind("grad.", 0) == 0 && norm(expected) < 1e-11 * largest)
      CHECK(norm(*actual) < 1e-9 * largest);
    else
      CHECK(relative_l2(expected, *actual, 1e-9));
    if (!contains(key, "num_batches")) CHECK(actual->dtype() == DType::f64);
    ++compared;
  }
  CHECK(static_cast<std::size_t>(compared) == result.tensors.size());
  return compared;
}

}  // namespace fovea::test
