// What the tests of model classes share, and a small CoreReadout.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "check.hpp"
#include "data_files.hpp"
#include "fovea/autograd.hpp"
#include "fovea/core_readout.hpp"
#include "fovea/ops.hpp"
#include "fovea/safetensors.hpp"
#include "models/registry.hpp"

namespace model_test {

using namespace fovea;
using namespace fovea::test;

inline bool contains(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

inline Placement f64() {
  static const Device device = cpu_device(1, Isa::reference);
  return {device, DType::f64};
}

/// Two layers on 12 x 11 pixels.
inline Json small() {
  return Json::parse(R"({"class": "CoreReadout", "in_shape": [2, 20, 12, 11], "hidden_channels": [3, 4],
    "temporal_kernel_sizes": [6, 3], "spatial_kernel_sizes": [4, 3], "n_neurons_dict": {"one": 5}})");
}

inline Json with(Json section, const Json& changes) {
  for (const auto& [key, value] : changes.items()) section[key] = value;
  return section;
}

inline std::unique_ptr<Model> make(const Json& section, std::uint64_t seed = 1) {
  return make_model(section.dump(), f64(), seed);
}

inline std::string refusal(const Json& section) {
  return message_of<ConfigError>([&] { make(section); });
}

inline Tensor random_tensor(const Shape& shape, std::uint64_t seed, const Placement& placement = f64()) {
  const Tensor tensor(shape, placement.dtype, placement.device);
  Random random(seed);
  random.normal(tensor);
  return tensor;
}

/// A batch for a sample shape (C,T,H,W) or (C,H,W).
inline Tensor stimulus(std::int64_t batch, const Shape& sample, const Placement& placement = f64()) {
  std::vector<std::int64_t> extents{batch};
  for (int axis = 1; axis < sample.rank(); ++axis) extents.push_back(sample[axis]);
  extents.push_back(sample[0]);
  return random_tensor(Shape(extents), 5, placement);
}

inline Tensor predict(const Model& model, const Tensor& x, const std::string& session) {
  const NoGrad no_grad;
  return model.forward({session, x, {}, {}}, {});
}

inline Tensor tensor_named(const Model& model, const std::string& name) {
  for (const NamedTensor& one : model.tensors())
    if (one.name == name) return one.tensor;
  throw Error("test", "no tensor " + name);
}

inline std::map<std::string, std::vector<double>> all_values(const Model& model) {
  std::map<std::string, std::vector<double>> result;
  for (const NamedTensor& one : model.tensors()) result[one.name] = values(one.tensor);
  return result;
}

}  // namespace model_test
