// A model that a test makes behave in ways that no real one does.
#pragma once
#include <functional>
#include <optional>

#include "fovea/model.hpp"

namespace fovea::test {

/// A model that behaves as another one, but for what a test replaces. It shares that one's tensors.
class Disguised : public Model {
 public:
  explicit Disguised(std::unique_ptr<Model> inner) : inner_(std::move(inner)) {
    for (const NamedTensor& one : inner_->tensors()) add_tensor(one.name, one.role, one.tensor);
  }
  std::string class_name() const override { return inner_->class_name(); }
  std::string config() const override { return inner_->config(); }
  const Placement& placement() const override { return inner_->placement(); }
  std::vector<std::string> sessions() const override { return inner_->sessions(); }
  std::int64_t n_neurons(const std::string& session) const override { return inner_->n_neurons(session); }
  double learning_rate() const override { return inner_->learning_rate(); }
  Shape in_shape() const override { return inner_->in_shape(); }
  bool takes_movies() const override { return inner_->takes_movies(); }
  Shape output_shape(const Shape& sample, const std::string& session) const override {
    return inner_->output_shape(sample, session);
  }
  Tensor forward(const ModelInput& input, const Pass& pass) const override {
    return inner_->forward(input, pass);
  }
  void apply_constraints(const std::string& session) const override {
    inner_->apply_constraints(session);
    if (constrain) constrain(session);
  }
  Tensor loss(const Tensor& output, const Tensor& responses) const override {
    return inner_->loss(output, responses);
  }
  Tensor metric(const Tensor& output, const Tensor& responses) const override {
    return inner_->metric(output, responses);
  }
  Tensor core_regularizer() const override { return regularize ? regularize() : inner_->core_regularizer(); }
  Tensor readout_regularizer(const std::string& session) const override {
    return inner_->readout_regularizer(session);
  }
  ModelDescription describe(const Shape& sample) const override { return inner_->describe(sample); }
  std::int64_t pupil_columns() const override { return columns.value_or(inner_->pupil_columns()); }
  Shape noise_shape(std::int64_t batch, const std::string& session) const override {
    return draws ? draws(batch, session) : inner_->noise_shape(batch, session);
  }

  std::function<void(const std::string& session)> constrain;
  std::function<Tensor()> regularize;
  std::optional<std::int64_t> columns;
  std::function<Shape(std::int64_t batch, const std::string& session)> draws;

 private:
  std::unique_ptr<Model> inner_;
};

}  // namespace fovea::test
