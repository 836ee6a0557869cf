// Small data sets and models for the tests of the training room.
#pragma once
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "check.hpp"
#include "fixture.hpp"
#include "fovea/autograd.hpp"
#include "fovea/core_readout.hpp"
#include "training/trainer.hpp"

namespace training_test {

using namespace fovea;
using namespace fovea::test;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A folder that goes when the test ends.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fovea-training-XXXXXX").string();
    if (!mkdtemp(name.data())) throw Error("test", "no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path(const std::string& name = "") const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// An in-memory array of f32 values that look random.
inline StoredArray stored(const std::vector<std::int64_t>& shape, unsigned seed, bool counts) {
  std::size_t size = 1;
  for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
  const auto values = std::make_shared<std::vector<float>>(size);
  std::uint32_t state = seed * 2654435761u + 12345u;
  for (float& value : *values) {
    state = state * 1664525u + 1013904223u;
    const float uniform = static_cast<float>(state >> 8) / 16777216.0f;
    value = counts ? std::floor(uniform * 3) : uniform * 4 - 2;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(values->data());
  return {"test", ElementType::float32, shape, bytes, values};
}

/// Two sessions of different length, with a repeated test movie in the second.
inline DataSet two_sessions() {
  DataSet data;
  const std::vector<std::pair<std::string, std::int64_t>> keys{{"a.1-b", 3}, {"c", 4}};
  unsigned seed = 1;
  for (const auto& [key, neurons] : keys) {
    Session session;
    session.key = key;
    session.neurons = neurons;
    const std::int64_t frames = key == "c" ? 160 : 240;
    session.stimulus = TimeSeries({stored({1, frames, 6, 7}, ++seed, false)});
    session.responses = TimeSeries({stored({neurons, frames}, ++seed, true)});
    session.mean_activity = session.responses.channel_means();
    TestMovie test;
    test.name = "test";
    test.stimulus = TimeSeries({stored({1, 90, 6, 7}, ++seed, false)});
    test.responses = TimeSeries({stored({neurons, 90}, ++seed, true)});
    if (key == "c") test.responses_by_trial = stored({3, neurons, 90}, ++seed, true);
    session.tests.push_back(test);
    data.sessions.push_back(session);
  }
  data.normalization = Normalization{0.1, 1.5};
  data.channels = 1;
  data.height = 6;
  data.width = 7;
  data.content_hash = "0123456789abcdef";
  return data;
}

inline DataOptions data_options() {
  DataOptions options;
  options.path = "memory";
  options.test_names = {"test"};
  options.batch_size = 2;
  options.train_chunk_size = 16;
  options.clip_length = 20;
  options.num_val_clips = 2;
  return options;
}

inline std::unique_ptr<Model> tiny_model(const Placement& placement, double dropout = 0.2) {
  CoreReadoutOptions options;
  options.in_shape = {1, 16, 6, 7};
  options.hidden_channels = {3, 4};
  options.temporal_kernel_sizes = {6, 3};
  options.spatial_kernel_sizes = {3, 3};
  options.core_gamma_input = 0.1;
  options.core_gamma_temporal = 0.5;
  options.dropout_rate = dropout;
  options.learning_rate = 0.02;
  return make_core_readout(options, {{"a.1-b", 3, {}}, {"c", 4, {}}}, placement, 5);
}

inline Placement reference_f64() { return {cpu_device(1, Isa::reference), DType::f64}; }

inline Tensor pseudo_random(const Shape& shape, const Placement& placement, unsigned seed,
                            bool counts = false) {
  return stored(shape.vector(), seed, counts).to_tensor(placement.dtype, placement.device);
}

struct Sample {
  ModelInput input;
  Tensor responses;
};

inline Sample sample(const std::string& session, const Placement& placement, unsigned seed = 3) {
  return {{session, pseudo_random({2, 16, 6, 7, 1}, placement, seed), {}, {}},
          pseudo_random({2, 16, session == "c" ? 4 : 3}, placement, seed + 1, true)};
}

inline std::vector<std::pair<std::string, Tensor>> copies(const Model& model) {
  std::vector<std::pair<std::string, Tensor>> result;
  for (const NamedTensor& one : model.tensors()) result.emplace_back(one.name, one.tensor.clone());
  return result;
}

inline Tensor named(const Model& model, const std::string& name) {
  for (const NamedTensor& one : model.tensors())
    if (one.name == name) return one.tensor;
  throw Error("test", text("there is no tensor ", name));
}

inline bool same_bits(const Model& a, const Model& b) {
  const auto left = a.tensors(), right = b.tensors();
  if (left.size() != right.size() || left.empty()) return false;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (!exact(left[i].tensor, right[i].tensor)) return false;
  return true;
}

inline RunOptions run_options(const std::string& folder, std::int64_t epochs) {
  RunOptions options;
  options.folder = folder;
  options.training.max_epochs = epochs;
  options.data = data_options();
  options.seed = 11;
  options.training.accumulate_grad_batches = 2;
  options.training.gradient_clip = 50.0;
  return options;
}

inline std::string message_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace training_test
