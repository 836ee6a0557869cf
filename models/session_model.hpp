// What the model classes share: sessions, loss and metric, and the completed configuration.
#pragma once
#include "models/losses.hpp"
#include "models/sessions.hpp"

namespace fovea {

class SessionModel : public Model {
 public:
  struct Common {
    std::string class_name;
    Json parameters;  // of the class's table, complete
    std::vector<SessionOptions> sessions;
    LossFunction loss, metric;
    Shape in_shape;  // (C,T,H,W) or (C,H,W)
    double learning_rate;
  };

  std::string class_name() const override { return common_.class_name; }
  std::string config() const override;
  const Placement& placement() const override { return placement_; }
  std::vector<std::string> sessions() const override;
  std::int64_t n_neurons(const std::string& session) const override {
    return common_.sessions[index_of(session)].n_neurons;
  }
  double learning_rate() const override { return common_.learning_rate; }
  Shape in_shape() const override { return common_.in_shape; }
  bool takes_movies() const override { return common_.in_shape.rank() == 4; }
  Tensor loss(const Tensor& output, const Tensor& responses) const override {
    return common_.loss.evaluate(output, responses);
  }
  Tensor metric(const Tensor& output, const Tensor& responses) const override;

 protected:
  struct Group : Module {
    using Module::add_child;
  };

  SessionModel(Common common, const Placement& placement)
      : common_(std::move(common)), placement_(placement) {}

  /// Of a session, which may stay unnamed where there is only one; ConfigError with the known ones where
  /// there is none of that name.
  std::size_t index_of(const std::string& session) const;
  const std::vector<SessionOptions>& session_options() const { return common_.sessions; }
  /// ShapeError unless channels and map of a sample (C,T,H,W) or (C,H,W) are the model's.
  void check_sample(const Shape& sample) const;
  /// The sample shape of a stimulus (B,T,H,W,C) or (B,H,W,C), checked.
  Shape sample_of(const Tensor& stimulus) const;

 private:
  Common common_;
  Placement placement_;
};

/// The keys of a model section that every class has besides its own parameters.
const std::vector<std::string>& common_keys();

/// `loss` and `metric` (or its second name `correlation_loss`) of a section, with the defaults of the class.
struct LossPair {
  LossFunction loss, metric;
};
LossPair read_losses(const std::string& where, const Json& section, bool movies, const Json& default_loss,
                     const Json& default_metric);

}  // namespace fovea
